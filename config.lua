-- SPDX-License-Identifier: MIT
-- The configuration of Couplet. It runs as it stands: one host, localhost, for trying things out.
--
-- This is a Lua file: name = value; lists and tables in { }; text in quotes; -- starts a comment.
--   coupletctl check config     says what is wrong with it
--   coupletctl reload           takes changes into the running server; nobody is disconnected
-- All options: docs/config.md. Paths are relative to the directory of this file.

---------- Who runs it, and where its data are ----------

-- Started as root (for low ports, or by an init system), Couplet becomes this user at once:
-- user = "couplet"
-- Without it, root must be allowed explicitly. Fine for a first try and in a container; else remove this line.
run_as_root = true

data_path = "data"                  -- database, control socket, pid file

---------- Administrators ----------

-- Accounts that may administer the server. Make them first: coupletctl adduser admin@localhost
admins = { }

---------- Plugins ----------

-- Directories with plugins from elsewhere, looked into before our own:
plugin_paths = { }

modules_enabled = {
  -- what every client needs
  "disco";            -- what this server can do (XEP-0030, XEP-0115)
  "roster";           -- contact lists
  "saslauth";         -- logging in
  "sasl2";            -- logging in in one round trip (XEP-0388) …
  "sasl2_bind2";      -- … with a resource (XEP-0386) …
  "sasl2_fast";       -- … and with a token instead of a password (XEP-0484)
  "sasl2_sm";         -- … or going on with a broken stream (XEP-0198)
  "tls";              -- encryption
  "dialback";         -- other servers prove their domain by being asked (XEP-0220)
  "carbons";          -- all of a user's devices see the whole conversation (XEP-0280)
  "blocklist";        -- users block others (XEP-0191)
  "csi_simple";       -- phones in pockets are left alone, unless it is important (XEP-0352)
  "cloud_notify";     -- phones are waked through their makers' push services (XEP-0357)
  "private";          -- small private data of clients (XEP-0049)
  "smacks";           -- acknowledged stanzas, sessions that survive a broken connection (XEP-0198)
  "pep";              -- avatars, bookmarks, keys, moods: each account publishes, contacts hear of it (XEP-0163)
  "bookmarks";        -- bookmarks of rooms, for new clients and old (XEP-0402)
  "vcard4";           -- business cards (XEP-0292) …
  "vcard_legacy";     -- … and avatars, for older clients too (XEP-0054, XEP-0153, XEP-0398)
  "ping";             -- is anybody there? (XEP-0199)

  "mam";              -- an archive of everybody's messages (XEP-0313), see below

  -- nice to have
  "time";             -- XEP-0202
  "uptime";           -- XEP-0012
  "version";          -- XEP-0092
  "lastactivity";     -- when was somebody here last? (XEP-0012)
  "s2s_bidi";         -- one connection with another server for both directions (XEP-0288)
  "limits";           -- bandwidth limits, see below
  "register";         -- changing passwords with a client; new accounts only if allow_registration is true (XEP-0077)
  "server_info";      -- contact addresses (XEP-0157)

  -- administration
  "adhoc";            -- commands in clients (XEP-0050)
  "admin_adhoc";      -- account commands for admins (XEP-0133)

  -- "spam_reporting"; -- those who block others may report them to you (XEP-0377)
  -- "compression";   -- XEP-0138; costs memory and, with TLS, may leak what it compresses
}

-- Always loaded, unless named here: presence message iq offline c2s s2s s2s_auth_certs
modules_disabled = {
  -- "offline";       -- keep messages for those who are away
}

---------- Connections ----------

interfaces = { "*", "::" }          -- all IPv4 and IPv6 addresses of this machine
c2s_ports = { 5222 }                -- clients, with STARTTLS
c2s_direct_tls_ports = { 5223 }     -- clients, TLS from the first byte

c2s_require_encryption = true
-- c2s_stanza_size_limit = 256 * 1024

limits = {
  c2s = { rate = "10kb/s", burst = "2s" };    -- what one client may send; more waits in the network
  s2sin = { rate = "300kb/s", burst = "3s" }; -- what another server may send, on all its connections
}

---------- Other servers ----------

s2s_ports = { 5269 }                -- with STARTTLS
s2s_direct_tls_ports = { 5270 }     -- TLS from the first byte; found by others through the DNS record _xmpps-server._tcp

s2s_require_encryption = true       -- no talk without TLS
s2s_secure_auth = true              -- nor without a certificate that is good for the domain, except with:
s2s_insecure_domains = { }          -- { "old.example" }: these may prove themselves by dialback alone
-- disallow_s2s = true              -- this server talks to nobody else

-- More plugins: s2s_whitelist = { … } (only these), s2s_blacklist = { … } (all but these)

---------- Certificates ----------

-- A directory. Found by name (example.org.crt + example.org.key, or example.org/fullchain.pem + privkey.pem as Let's Encrypt
-- makes them), or by the names inside. localhost gets one of our own. New ones are taken by `coupletctl reload`.
certificates = "certs"

-- tls_profile = "intermediate"     -- modern: TLS 1.3 only; intermediate: 1.2 and 1.3; old: for museums

---------- Accounts and storage ----------

authentication = "internal_hashed"  -- accounts in our own database, no readable passwords
allow_registration = false

-- storage = "internal"             -- the default: data/couplet.sqlite
-- storage = "sql"                  -- in PostgreSQL; the tables are made by themselves
-- sql = { driver = "PostgreSQL", database = "couplet", username = "couplet", password = "secret", host = "127.0.0.1" }

-- How long messages stay in the archive ("never": for ever), and what is archived for accounts that have not chosen themselves:
-- "always", "never", "roster" (what is exchanged with contacts)
archive_expires_after = "1w"
default_archive_policy = "always"

---------- Log ----------

-- Each level includes those above it: debug, info, warn, error. "*console", "*syslog", or a file.
log = {
  info = "*console";
  -- info = "couplet.log";
  -- error = "*syslog";
}

---------- Hosts ----------

-- One for each domain. Options below a VirtualHost count for it alone.
VirtualHost "localhost"

-- VirtualHost "example.org"
--   admins = { "you@example.org" }

-- Services on hosts of their own. With a plugin, inside the server: rooms for many, verona@rooms.localhost and so on
Component "rooms.localhost" "muc"
  name = "Chatrooms"
  modules_enabled = { "muc_mam", "muc_moderation", "muc_limits" }        -- archives, moderation, bounds for those who flood
  muc_burst_factor = 20               -- who comes in and has much to say is no flood: ten messages at once, one each two seconds

-- News for many, publish-subscribe (XEP-0060). What accounts publish for their contacts (plugin "pep") needs no host of its own.
-- Component "pubsub.localhost" "pubsub"
--   pubsub_create = "local"         -- who may make nodes: "admin", "local" (accounts of this server), "any"

-- Without a plugin, a process of its own attaches on port 5347 of this machine (component_ports, component_interfaces):
-- Component "irc.example.org"
--	component_secret = "a long random text, the same in the gateway's configuration"
--	name = "IRC gateway"

-- Include "conf.d/*.cfg.lua"
