#!/usr/bin/env python3
"""Phones behind Kamailio as an edge proxy: they register through it (Path), and all they say goes by it (Record-Route), to
the server over UDP or TLS.

    alice, bob  ──UDP──  Kamailio  ──UDP or TLS──  the server  ──  carol
"""

import argparse
import pathlib
import shutil
import subprocess
import sys

import run
from server import Server, certify

CONFIG = """#!KAMAILIO
debug=2
log_stderror=yes
fork=yes
children=2
tcp_children=2
auto_aliases=no
listen=udp:{edge}:5060
listen=tls:{edge}:5061
enable_tls=yes
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/:/usr/lib64/kamailio/modules/"
loadmodule "kex.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "path.so"
loadmodule "tls.so"
modparam("tls", "config", "{folder}/tls.cfg")
modparam("rr", "enable_double_rr", 1)
modparam("path", "use_received", 1)
request_route {{
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
  if (has_totag()) {{
    if (loose_route()) {{ t_relay(); exit; }}
    if (is_method("ACK")) {{ if (t_check_trans()) {{ t_relay(); }} exit; }}
    sl_send_reply("404", "Not here"); exit;
  }}
  if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
  t_check_trans();
  if (is_method("OPTIONS") && uri==myself) {{ sl_send_reply("200", "OK"); exit; }}
  record_route();
  loose_route();
  # From the server, along the Route that it has of the phone's Path.
  if ($rd != "{address}") {{ t_relay(); exit; }}
  if (is_method("REGISTER")) add_path_received();
  $du = "{server}";
  t_relay();
  exit;
}}
"""
TLS = """[server:default]
method = TLSv1.2+
verify_certificate = no
require_certificate = no
certificate = {folder}/edge.pem
private_key = {folder}/edge.key
[client:default]
method = TLSv1.2+
verify_certificate = yes
require_certificate = yes
ca_list = {folder}/server.pem
"""


def main():
    target = pathlib.Path(__file__).resolve().parent.parent.parent / "target"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tandem", default=str(target / "release/tandem"), help="the binary")
    parser.add_argument("--phones", default="linphone,baresip")
    parser.add_argument("--features", type=lambda text: text.split(";"), help="some of them, with ; between")
    parser.add_argument("--network", default="127.0.16", help="the first three numbers of the addresses to use")
    parser.add_argument("--folder", default="/tmp/tandem-edge", help="emptied first")
    args = parser.parse_args()
    args.long = False
    if shutil.which("kamailio") is None:
        print("skipped: kamailio is not installed", file=sys.stderr)
        return 0
    shutil.rmtree(args.folder, ignore_errors=True)
    edge, address, whole = f"{args.network}.3", f"{args.network}.1", args.folder
    columns = {}
    for way, uri in (("udp", f"sip:{address}:5060"), ("tls", f"sip:{address}:5061;transport=tls")):
        args.folder = f"{whole}/{way}"
        folder = pathlib.Path(args.folder)
        folder.mkdir(parents=True)
        certify(edge, folder / "edge")
        server = Server(args.tandem, folder, address, sip=f'ca_file = "{folder}/edge.pem"')
        (folder / "tls.cfg").write_text(TLS.format(folder=folder))
        (folder / "kamailio.cfg").write_text(CONFIG.format(edge=edge, folder=folder, server=uri, address=address))
        server.start()
        with open(folder / "kamailio.log", "wb") as log:
            command = ["kamailio", "-DD", "-E", "-f", str(folder / "kamailio.cfg"), "-P", str(folder / "pid"), "-m", "64", "-M", "8"]
            proxy = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            for kind in args.phones.split(","):
                columns[f"{kind}, {way} from the proxy"] = run.try_out(args, server, kind, "udp", None, f"{edge}:5060")
        finally:
            proxy.terminate()
            proxy.wait(20)
            server.close()
    return run.show(columns)


if __name__ == "__main__":
    sys.exit(main())
