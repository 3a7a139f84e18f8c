"""What schemathesis cannot know: what there is, and what a run must not do to itself or to the world."""

import json
import os

import schemathesis

# The keys that the run itself signs in with: a run that revokes its own key tests nothing from then on.
OWN_KEYS = set(os.environ.get("CONTRACT_OWN_KEYS", "").split())
# Nobody listens here, and a refused connection is an attempt like any other.
NOWHERE = "http://127.0.0.1:9/"
NO_KEY = "key_00000000000000000000000000"
# The id of the examples in the document, which is nobody's; things that there are stand in for it, each in its turn.
EXAMPLE_ID = "01kf9v8tj0fgx9tbjzg45p9hz2"
THINGS = json.loads(os.environ.get("CONTRACT_THINGS", "{}"))


@schemathesis.hook
def before_call(context, case, kwargs):
    """Puts things that there are into paths, keeps the run's own keys, and sends no webhook to the document's hosts."""
    path = case.path_parameters or {}
    for name, value in path.items():
        if isinstance(value, str) and value.endswith(EXAMPLE_ID):
            kind = "dead_letter" if "/dlq/" in case.path else name
            things = THINGS.get(kind)
            if things:
                path[name] = things[0]
                things.append(things.pop(0))
    if path.get("key_id") in OWN_KEYS:
        path["key_id"] = NO_KEY
    body = case.body
    if isinstance(body, dict) and isinstance(body.get("url"), str) and "example." in body["url"]:
        body["url"] = NOWHERE
