"""An application of signalwire-sdk: a SWMLService that is asked for its document, with the SDK's own check of signatures.

swml_app.py PORT SIGNING_KEY TOLD: TOLD is the URL that methods' status callbacks and what was heard go to.
"""

import sys

import uvicorn
from fastapi import Depends, FastAPI
from signalwire.core.security.webhook_middleware import make_webhook_validation_dependency
from signalwire.core.swml_service import SWMLService

port, key, told = int(sys.argv[1]), sys.argv[2], sys.argv[3]
menu = SWMLService("menu", route="/menu", basic_auth=("swml", "pass word"))
menu.add_verb("answer", {})
menu.add_verb("set", {"digits": "", "greeting": "${call.from}"})
menu.add_verb("record_call", {"stereo": True, "format": "wav", "status_url": told + "/record"})
menu.add_verb("prompt", {"play": ["silence:0.2", "say:Press four digits"], "max_digits": 4, "status_url": told + "/collect"})
menu.add_verb("execute", {"dest": "told", "params": {"digits": "${prompt_value}"}})
menu.add_verb("switch", {
    "variable": "prompt_value",
    "case": {"1234": [{"transfer": {"dest": f"http://swml:pass%20word@127.0.0.1:{port}/second", "params": {"who": "${prompt_value}"}}}]},
    "default": [{"hangup": {}}],
})
menu.add_section("told")
menu.add_verb_to_section("told", "request", {
    "url": told + "/variables?digits=${params.digits}&result=${prompt_result}&recording=${record_call_result}", "method": "GET",
})
second = SWMLService("second", route="/second", basic_auth=("swml", "pass word"))
second.add_verb("play", {"urls": ["say:Goodbye", "silence:0.2"], "status_url": told + "/play"})
second.add_verb("stop_record_call", {})
second.add_verb("hangup", {})

app = FastAPI()
genuine = [Depends(make_webhook_validation_dependency(key))]
for service in (menu, second):
    app.include_router(service.as_router(), prefix=service.route, dependencies=genuine)
uvicorn.run(app, host="127.0.0.1", port=port, log_level="info")
