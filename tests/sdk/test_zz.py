import pytest, time
from browser_acts import *
import browser_acts
for n in list(globals()):
    if n.startswith("test_"): del globals()[n]
import os
@pytest.fixture(scope="module")
def library(): return os.environ["L"]
def test_rep(page, server):
    alice, bob = page(), page()
    connect(alice, bob)
    def see(what):
      print(what)
      for k in range(5):
        time.sleep(0.4)
        print(alice.hertz, bob.hertz, k, alice.do("hears", -1), bob.do("hears", -1), alice.facts(), bob.facts())
    alice.do("hold"); see("alice holds")
    bob.do("hold"); see("bob holds, too")
    alice.do("unhold"); see("alice resumes")
    bob.do("unhold"); see("bob resumes")
    print(server.log()[-3000:])
