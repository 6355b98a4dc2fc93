# SPDX-License-Identifier: MIT
"""slixmpp's component, and Debian's IRC gateway biboumi, attached to Couplet; a client talks with both. The configuration of the
components is as Prosody's documentation writes it."""
import asyncio
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import slixmpp  # noqa: E402
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server, certificate, free_port  # noqa: E402

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
PORT = free_port()
HOSTS = """VirtualHost "localhost"

Component "bot.localhost"
	component_secret = "prospero"
	name = "A bot"

Component "irc.localhost"
	component_secret = "caliban"
"""


def watch(xmpp):
    xmpp.messages = asyncio.Queue()
    xmpp.add_event_handler("message", xmpp.messages.put_nowait)
    for plugin in ("xep_0030", "xep_0199", "xep_0092", "xep_0050"):
        xmpp.register_plugin(plugin)


async def started(xmpp):
    begun = loop.create_future()
    xmpp.add_event_handler("session_start", lambda e: begun.done() or begun.set_result(True))
    xmpp.add_event_handler("failed_all_auth", lambda e: begun.done() or begun.set_exception(PermissionError("login")))
    xmpp.add_event_handler("stream_error", lambda e: begun.done() or begun.set_exception(PermissionError(e["condition"])))
    await asyncio.wait_for(begun, DEADLINE)
    return xmpp


async def client(server):
    xmpp = slixmpp.ClientXMPP("romeo@localhost/orchard", "secret")
    xmpp.ca_certs = pathlib.Path(certificate()) / "cert.pem"
    watch(xmpp)
    xmpp.connect(("127.0.0.1", server.port))
    await started(xmpp)
    await xmpp.get_roster()
    xmpp.send_presence()
    return xmpp


async def component(secret="prospero"):
    xmpp = slixmpp.ComponentXMPP("bot.localhost", secret, "127.0.0.1", PORT)
    watch(xmpp)
    xmpp.plugin["xep_0030"].add_identity(category="client", itype="bot", name="Ariel", jid=xmpp.boundjid)
    xmpp.connect()
    return await started(xmpp)


async def next_message(xmpp):
    return await asyncio.wait_for(xmpp.messages.get(), DEADLINE)


@test("slixmpp: handshake, messages both ways, disco, ping, presence of its users")
async def bot(server):
    ariel = await component()
    romeo = await client(server)
    romeo.send_message("sprite@bot.localhost", "come unto these yellow sands", mtype="chat")
    message = await next_message(ariel)
    equal((str(message["from"]), message["body"]), ("romeo@localhost/orchard", "come unto these yellow sands"))
    ariel.send_message("romeo@localhost/orchard", "hark, hark", mfrom="sprite@bot.localhost/isle", mtype="chat")
    message = await next_message(romeo)
    equal((str(message["from"]), message["body"]), ("sprite@bot.localhost/isle", "hark, hark"))

    items = await romeo.plugin["xep_0030"].get_items("localhost")
    equal({(i[0], i[2]) for i in items["disco_items"]["items"]}, {("bot.localhost", "A bot"), ("irc.localhost", None)})
    info = await romeo.plugin["xep_0030"].get_info("bot.localhost")
    assert ("client", "bot") in {i[:2] for i in info["disco_info"]["identities"]}, info
    info = await ariel.plugin["xep_0030"].get_info("localhost", ifrom="bot.localhost")
    assert ("server", "im") in {i[:2] for i in info["disco_info"]["identities"]}, info
    assert await ariel.plugin["xep_0199"].send_ping("localhost", ifrom="bot.localhost") is not None
    assert await romeo.plugin["xep_0199"].send_ping("bot.localhost") is not None

    subscribed = loop.create_future()
    romeo.add_event_handler("presence_available",
                            lambda p: str(p["from"]) == "sprite@bot.localhost/isle" and (subscribed.done() or subscribed.set_result(p)))
    ariel.add_event_handler("presence_subscribe", lambda p: (
        ariel.send_presence(pto="romeo@localhost", pfrom="sprite@bot.localhost", ptype="subscribed"),
        ariel.send_presence(pto="romeo@localhost", pfrom="sprite@bot.localhost/isle", pstatus="here")))
    romeo.send_presence_subscription("sprite@bot.localhost")
    equal((await asyncio.wait_for(subscribed, DEADLINE))["status"], "here")
    await ariel.disconnect()
    await romeo.disconnect()


@test("slixmpp: a wrong secret is refused")
async def refused(server):
    try:
        await component("sycorax")
    except PermissionError as e:
        equal(str(e), "not-authorized")
    else:
        raise AssertionError("was let in")


@test("biboumi answers disco, version, ping and commands; it says so when an IRC server is not there")
async def biboumi(server):
    if not shutil.which("biboumi"):
        raise AssertionError("biboumi is not installed (./dev test does it)")
    config = server.dir / "biboumi.cfg"
    config.write_text("hostname=irc.localhost\npassword=caliban\nxmpp_server_ip=127.0.0.1\nport=%d\nadmin=romeo@localhost\n"
                      "db_name=%s/biboumi.sqlite\nlog_file=%s/biboumi.log\nlog_level=0\n" % (PORT, server.dir, server.dir))
    up = "component irc.localhost connected"
    process = subprocess.Popen(["biboumi", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=server.dir)
    romeo = None
    try:
        end = loop.time() + DEADLINE
        while up not in server.log():
            assert process.poll() is None and loop.time() < end, "biboumi did not attach"
            await asyncio.sleep(0.05)
        romeo = await client(server)
        disco = romeo.plugin["xep_0030"]
        info = await disco.get_info("irc.localhost")
        assert ("conference", "irc") in {i[:2] for i in info["disco_info"]["identities"]}, info
        assert "http://jabber.org/protocol/muc" in info["disco_info"]["features"], info
        info = await disco.get_info("#plays%127.0.0.1@irc.localhost")
        assert ("conference", "irc") in {i[:2] for i in info["disco_info"]["identities"]}, info
        version = await romeo.plugin["xep_0092"].get_version("irc.localhost")
        equal(version["software_version"]["name"], "biboumi")
        assert await romeo.plugin["xep_0199"].send_ping("irc.localhost") is not None
        commands = await romeo.plugin["xep_0050"].get_commands("irc.localhost")
        assert "configure" in {i[1] for i in commands["disco_items"]["items"]}, commands
        # joining a channel of a server that is not there: the gateway tries, and says so
        romeo.send_raw("<presence to='#plays%127.0.0.1@irc.localhost/romeo'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
        seen = ""
        while "refused" not in seen:
            message = await next_message(romeo)
            equal(str(message["from"]), "127.0.0.1@irc.localhost")
            seen += message["body"]
        assert "Connecting to 127.0.0.1" in seen, seen
    finally:
        process.terminate()
        process.wait(DEADLINE)
        if romeo:
            await romeo.disconnect()
    equal(process.returncode, 0)


with Server(accounts={"romeo@localhost": "secret"}, config="component_ports = { %d }" % PORT, hosts=HOSTS) as server:
    failed = done(server)
sys.exit(failed != 0)
