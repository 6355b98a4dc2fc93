-- SPDX-License-Identifier: MIT
-- jobs.lua: CPU-bound work off the logic thread, by name; what module:job() offers.
--
--   jobs.run(kind, args, done)      done(result) or done(nil, message, code), later
--
--   hash     { name = "sha256", data =, hex = bool }
--   pbkdf2   { name = "sha256", password =, salt =, iterations =, length? = }
--   scrypt   { password =, salt =, n = 16384, r = 8, p = 1, length = 32 }
--   deflate  { data =, format = "zlib" | "gzip" | "raw", level = 6 }
--   inflate  { data =, format = "zlib" | "gzip" | "raw", limit = 16 MiB }
--   image    { data = } -> { type =, width =, height = }       from the header of a PNG, JPEG, GIF or WebP

local core = require "couplet.core"
local crypto, job = core.crypto, core.job

local jobs = {}

local kinds = {}

function kinds.hash(a, done)
  if not a.hex then return job.hash(a.name, a.data, done) end
  return job.hash(a.name, a.data, function(digest, ...)
    if digest then digest = crypto.hex_encode(digest) end
    done(digest, ...)
  end)
end

function kinds.pbkdf2(a, done)
  return crypto.pbkdf2(a.name or "sha256", a.password, a.salt, a.iterations, a.length, done)
end

function kinds.scrypt(a, done)
  return job.scrypt(a.password, a.salt, a.n or 16384, a.r or 8, a.p or 1, a.length or 32, done)
end

function kinds.deflate(a, done)
  return job.deflate(a.format or "zlib", a.data, a.level or 6, done)
end

function kinds.inflate(a, done)
  return job.inflate(a.format or "zlib", a.data, a.limit or 16 * 1024 * 1024, done)
end

-- --- images: a look at the header, nothing that would need a thread ---

local function png(data)
  if data:sub(1, 8) ~= "\137PNG\r\n\26\n" or data:sub(13, 16) ~= "IHDR" or #data < 24 then return nil end
  return "image/png", (">I4I4"):unpack(data, 17)
end

local function gif(data)
  if not data:find "^GIF8[79]a" or #data < 10 then return nil end
  return "image/gif", ("<I2I2"):unpack(data, 7)
end

local function jpeg(data)
  if data:sub(1, 2) ~= "\255\216" then return nil end
  local pos = 3
  while pos + 9 <= #data do
    local mark, kind, length = (">BBI2"):unpack(data, pos)
    if mark ~= 255 then return nil end
    if kind == 255 then
      pos = pos + 1                       -- filling
    elseif kind >= 0xC0 and kind <= 0xCF and kind ~= 0xC4 and kind ~= 0xC8 and kind ~= 0xCC then
      local height, width = (">I2I2"):unpack(data, pos + 5)
      return "image/jpeg", width, height
    else
      if length < 2 then return nil end
      pos = pos + 2 + length
    end
  end
end

local function webp(data)
  if data:sub(1, 4) ~= "RIFF" or data:sub(9, 12) ~= "WEBP" or #data < 30 then return nil end
  local kind = data:sub(13, 16)
  if kind == "VP8X" then
    local w, h = ("<I3I3"):unpack(data, 25)
    return "image/webp", w + 1, h + 1
  elseif kind == "VP8 " then
    local w, h = ("<I2I2"):unpack(data, 27)
    return "image/webp", w & 0x3fff, h & 0x3fff
  elseif kind == "VP8L" then
    local bits = ("<I4"):unpack(data, 22)
    return "image/webp", (bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1
  end
end

function kinds.image(a, done)
  for _, read in ipairs { png, jpeg, gif, webp } do
    local kind, width, height = read(a.data)
    if kind then return done { type = kind, width = width, height = height } end
  end
  done(nil, "not an image of a kind known here", "bad-request")
end

jobs.kinds = kinds

function jobs.run(kind, args, done)
  local fn = kinds[kind]
  if not fn then error("no such kind of job: " .. tostring(kind), 3) end
  return fn(args or {}, done)
end

return jobs
