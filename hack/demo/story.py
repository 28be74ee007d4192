"""The demo itself: each step with its time, then what to type to go on by hand."""

from __future__ import annotations

import os
import string
import time
from collections.abc import Callable

import openai

from hack.cluster import proxies
from hack.cluster.processes import ClusterError
from hack.cluster.progress import say, step
from hack.demo import calls, deploy
from hack.demo.runtimes import Runtime
from hack.demo.session import Session
from hack.images.catalog import IMAGES, REPOSITORY

ENDPOINT = MODEL = "tiny"
KEY_SECRET = "demo-api-key"  # noqa: S105 - the name of the object, not what is in it


def tell(runtime: Runtime) -> None:
    """From nothing to answers; ClusterError with what to look at when a step fails."""
    with step("check this machine"):
        runtime.prepare()
    runtime.build(IMAGES)
    session = runtime.start()
    runtime.load()
    url = deploy_everything(session)
    key = deploy.read_key(session, KEY_SECRET)
    talk(f"{session.url}/v1", key)
    print(_by_hand(session, url))


def deploy_everything(session: Session) -> str:
    """Chart, endpoint and key, until the endpoint is ready; its URL."""
    try:
        with step(f"helm upgrade --install {deploy.RELEASE} charts/vllm-endpoints"):
            deploy.install_chart(session, deploy.chart_values(session.url))
        with step("operator and gateway ready"):
            deploy.wait_installed(session)
        with step("kubectl apply -f examples/tiny.yaml"):
            deploy.apply_file(session, deploy.EXAMPLE)
        with step("a pod starts vLLM and loads the model", expect="about a minute"):
            deploy.wait_ready(session, "demo", kind="apikey", timeout_seconds=60)
            ready = deploy.wait_ready(session, ENDPOINT, report=lambda line: say(f"    {line}"))
    except ClusterError as error:
        raise ClusterError(f"{error}\n\n{_state(session)}") from error
    return str(ready["status"]["url"])


def talk(base_url: str, key: str) -> None:
    """Everything the OpenAI SDK is promised; ClusterError where an error does not come."""
    os.environ.update(proxies.past(os.environ))  # which is where the SDK looks
    client = openai.OpenAI(base_url=base_url, api_key=key)
    say(f'client = openai.OpenAI(base_url="{base_url}", api_key="{key[:6]}...")')
    _show("models.list()", lambda: calls.model_names(client))
    _show("completions.create()", lambda: calls.completion(client, MODEL))
    _show("chat.completions.create()", lambda: calls.chat(client, MODEL))
    _show("chat.completions.create(stream=True)", lambda: calls.streamed_chat(client, MODEL))
    _show("with a wrong key", lambda: calls.error_of_wrong_key(base_url, MODEL))
    _show("with a wrong model", lambda: calls.error_of_wrong_model(client))
    say("(the model's weights are random, so its answers make no sense)")


def _show(title: str, call: Callable[[], object]) -> None:
    begun = time.monotonic()
    try:
        answer = call()
    except openai.OpenAIError as error:
        raise ClusterError(f"{title} failed: {error!r}") from error
    if answer is None:
        raise ClusterError(f"{title}: the SDK raised nothing")
    shown = f"{type(answer).__name__}: {answer}" if isinstance(answer, Exception) else repr(answer)
    say(f"  {title} -> {shown} ({time.monotonic() - begun:.2f}s)")


def _state(session: Session) -> str:
    """What a person would look at first."""
    tail = ["--tail=15", "--prefix", "--ignore-errors"]
    operator = ["-n", deploy.NAMESPACE, "-l", "app.kubernetes.io/component=operator"]
    looks = (
        ["get", "pods", "-A", "-o", "wide"],
        ["get", "events", "-A", "--field-selector=type!=Normal"],
        ["logs", *operator, *tail],
        ["logs", "-l", deploy.ENDPOINT_LABEL, *tail],
    )
    seen = [_printed(session, look) for look in looks]
    return "\n".join([*seen, "To look further:", *session.shell_settings()])


def _printed(session: Session, look: list[str]) -> str:
    """What kubectl prints; its complaint too, which must not hide the failure looked into."""
    try:
        return session.call_kubectl(*look)
    except ClusterError as error:
        return str(error)


def _by_hand(session: Session, url: str) -> str:
    return BY_HAND.substitute(
        settings="\n".join(session.shell_settings()),
        url=url,
        secret=KEY_SECRET,
        model=MODEL,
        endpoint=ENDPOINT,
        python=REPOSITORY / ".venv/bin/python",
    )


BY_HAND = string.Template("""
It runs. To go on by hand:

$settings
kubectl get inferenceendpoints,apikeys,pods -o wide
export OPENAI_BASE_URL=$url
export OPENAI_API_KEY=$$(kubectl get secret $secret -o jsonpath='{.data.api-key}' | base64 -d)
curl $$OPENAI_BASE_URL/completions -H "Authorization: Bearer $$OPENAI_API_KEY" \\
  -H 'Content-Type: application/json' -d '{"model": "$model", "prompt": "import os"}'
$python - <<'EOF'
from openai import OpenAI
answer = OpenAI().completions.create(model="$model", prompt="import os")
print(answer.choices[0].text)
EOF
kubectl scale inferenceendpoint $endpoint --replicas=2

make demo-down   # removes every trace of the cluster
""")
