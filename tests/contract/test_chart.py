"""The chart: what it renders, what it refuses, and that it agrees with the rest of the tree."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.helm import HelmError, Manifest, container, flags, helm, pick, render
from helpers.kubernetes_schema import kubernetes_faults
from helpers.tree import CHART, ROOT

GOLDEN = Path(__file__).parent / "golden"
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
Values = Mapping[str, Any]

INGRESS = {"ingress.enabled": True, "ingress.host": "llm.example.com"}
TABLE: dict[str, Values] = {
    "defaults": {},
    "ingress": INGRESS,
    "ingress-tls": {**INGRESS, "ingress.tls": [{"hosts": ["llm.example.com"], "secretName": "t"}]},
    "ingress-any-host": {"ingress.enabled": True, "ingress.className": "traefik"},
    "ingress-annotations": {**INGRESS, "ingress.annotations": {"example.com/buffering": "off"}},
    "placement": {
        "operator.nodeSelector": {"disk": "ssd"},
        "gateway.tolerations": [{"key": "spot", "operator": "Exists"}],
        "gateway.affinity": {"nodeAffinity": {}},
        "gateway.podAnnotations": {"prometheus.io/scrape": "true"},
        "imagePullSecrets": ["registry"],
    },
    "images": {
        "operator.image": {"repository": "localhost/op", "tag": "dev", "pullPolicy": "Never"},
        "gateway.image": {"repository": "host:5000/a/gw", "tag": "1.2", "pullPolicy": "Always"},
        "engine.image": "vllm/vllm-openai@sha256:" + "0" * 64,
    },
    "named-namespaces": {"watchNamespaces": ["team-a", "team-b"]},
    "engines": {
        "engine.imagePullSecrets": ["registry", "mirror"],
        "engine.nodeSelector": {"gpu": "yes"},
        "engine.caBundle": "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
        "networkPolicy.scrapers": [{"namespaceSelector": {"matchLabels": {"team": "metrics"}}}],
        "upgrade.maxConcurrent": 3,
    },
    "host-domains": {
        **INGRESS,
        "gateway.hostDomains": [{"domain": "a.com", "namespaces": ["team-a"]}, {"domain": "b.c"}],
    },
    "one-of-each": {"operator.replicas": 1, "gateway.replicas": 1},
    "limits": {"gateway.maxBodyBytes": 1073741824, "gateway.drainSeconds": 1},
    "shared-limits": {
        "gateway.limits.redis.url": "rediss://redis.redis:6379/1",
        "gateway.limits.redis.passwordSecretRef": {"name": "redis", "key": "password"},
        "gateway.limits.redis.caSecretRef": {"name": "redis", "key": "ca.crt"},
    },
    "without-crds": {"crds.install": False},
    "as-a-subchart": {"global": {"anything": 1}},
}


def as_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def refusal(values: Values) -> str:
    """Return what helm says against these values, nothing where it renders them."""
    try:
        render(values)
    except HelmError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def objects() -> list[Manifest]:
    return render()


def test_lint_has_no_complaint() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", CHART)


@pytest.mark.parametrize("values", TABLE.values(), ids=TABLE)
def test_everything_rendered_is_what_the_kubernetes_api_knows(values: Values) -> None:
    objects = render(values)
    assert [fault for obj in objects for fault in kubernetes_faults(obj)] == []
    keys = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in objects]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("values", "field", "remedy"),
    [
        ({"gateway.replicas": 0}, "/gateway/replicas", "want 1"),
        ({"gateway.replicas": "two"}, "/gateway/replicas", "want integer"),
        ({"operator.replicas": 11}, "/operator/replicas", "want 10"),
        ({"gateway.replica": 3}, "/gateway", "'replica' not allowed"),
        ({"replicas": 3}, "at ''", "'replicas' not allowed"),
        ({"gateway.maxBodyBytes": 1}, "/gateway/maxBodyBytes", "want 1,024"),
        ({"gateway.drainSeconds": 0}, "/gateway/drainSeconds", "want 1"),
        ({"gateway.limits.redis.url": "redis.redis:6379"}, "/gateway/limits/redis/url", "pattern"),
        (
            {"gateway.limits.redis.passwordSecretRef": {"name": "redis"}},
            "/gateway/limits/redis/passwordSecretRef",
            "key",
        ),
        ({"gateway.timeouts.idleSeconds": 0.5}, "/gateway/timeouts/idleSeconds", "want integer"),
        ({"gateway.timeouts.idle": "2m"}, "/gateway/timeouts", "'idle' not allowed"),
        ({"gateway.image.pullPolicy": "Often"}, "/gateway/image/pullPolicy", "IfNotPresent"),
        ({"operator.image.repository": "a:1"}, "/operator/image/repository", "pattern"),
        ({"operator.image.repository": ""}, "operator.image.repository", "README, step 1"),
        ({"gateway.image.repository": ""}, "gateway.image.repository", "README, step 1"),
        ({"operator.resources.limits.memory": "1Zi"}, "/operator/resources/limits/memory", "[KMG"),
        ({"gateway.resources.requests.cpu": -1}, "/gateway/resources/requests/cpu", "want 0"),
        ({"operator.podAnnotations": {"a": 1}}, "/operator/podAnnotations/a", "want string"),
        ({"logLevel": "loud"}, "/logLevel", "'debug', 'info', 'warning', 'error'"),
        ({"clusterDomain": "Cluster Local"}, "/clusterDomain", "pattern"),
        ({"imagePullSecrets": [{"name": "a"}]}, "/imagePullSecrets/0", "want string"),
        ({"ingress.enabled": "maybe"}, "/ingress/enabled", "want boolean"),
        ({"ingress.host": "https://a"}, "/ingress/host", "pattern"),
        ({"ingress.hosts": ["a"]}, "/ingress", "'hosts' not allowed"),
        ({"crds.keep": True}, "/crds", "'keep' not allowed"),
        ({"engine.image": "vllm/vllm-openai"}, "engine.image", "needs a tag"),
        ({"engine.image": "localhost:5000/vllm"}, "engine.image", "needs a tag"),
        ({"engine.caBundle": "/etc/ca.pem"}, "/engine/caBundle", "BEGIN CERTIFICATE"),
        ({"engine.nodeSelector": {"gpu": True}}, "/engine/nodeSelector/gpu", "want string"),
        ({"watchNamespaces": ["Team A"]}, "/watchNamespaces/0", "pattern"),
        ({"gateway.hostDomains": ["a.com"]}, "/gateway/hostDomains/0", "want object"),
        ({"gateway.hostDomains": [{"domain": "*.a"}]}, "/gateway/hostDomains/0/domain", "pattern"),
        ({"gateway.hostDomains": [{"namespaces": []}]}, "/hostDomains/0", "property 'domain'"),
        ({"watchNamespaces": "team-a"}, "/watchNamespaces", "want array"),
        ({"networkPolicy.scrapers": [{}]}, "/networkPolicy/scrapers/0", "want 1"),
        ({"networkPolicy.scrapers": [{"pod": {}}]}, "/networkPolicy/scrapers/0", "'pod' not allo"),
        ({"upgrade.maxConcurrent": 0}, "/upgrade/maxConcurrent", "want 1"),
        ({"gateway.externalUrl": "llm.example.com"}, "gateway.externalUrl", "http(s)://HOST"),
        ({"gateway.externalUrl": "https://a/"}, "gateway.externalUrl", "without a slash at the en"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_a_bad_value_is_refused_with_its_field_and_the_remedy(
    values: Values, field: str, remedy: str
) -> None:
    text = refusal(values)
    assert field in text
    assert remedy in text


@pytest.mark.parametrize(
    "name", [*DEFAULTS, *(f"{k}.{sub}" for k, v in DEFAULTS.items() for sub in as_mapping(v))]
)
def test_a_value_that_is_taken_away_is_missed_by_its_name_or_not_at_all(name: str) -> None:
    # a null removes the default, and a template that reads it unasked fails with a nil pointer
    text = refusal({name: None})
    assert not text or f"missing property '{name.rpartition('.')[2]}'" in text


@pytest.mark.parametrize("quantity", ["1", 1, 0.5, "500m", "1.5Gi", "2e3", "128974848"])
def test_a_quantity_may_be_written_in_every_way_that_kubernetes_reads(quantity: str) -> None:
    objects = render({"operator.resources.requests.memory": quantity})
    operator = container(pick(objects, "Deployment", "vllm-endpoints-operator"))
    assert operator["resources"]["requests"]["memory"] == quantity


def test_an_old_cluster_is_refused() -> None:
    with pytest.raises(HelmError, match=r"kubeVersion: >=1\.33"):
        helm("template", "x", CHART, "--kube-version", "1.32.9")


# -- access rights -----------------------------------------------------------------------


def test_access_rights_are_the_committed_ones(objects: list[Manifest]) -> None:
    rules = {
        f"{o['kind']} {o['metadata']['name']}": o["rules"]
        for o in objects
        if o["kind"] in {"ClusterRole", "Role"}
    }
    assert rules == yaml.safe_load((GOLDEN / "rbac.yaml").read_text())


def test_every_role_is_bound_to_its_own_part_only(objects: list[Manifest]) -> None:
    bindings = [o for o in objects if o["kind"] in {"ClusterRoleBinding", "RoleBinding"}]
    assert len(bindings) == 4
    for binding in bindings:
        (subject,) = binding["subjects"]
        assert binding["roleRef"]["name"] == binding["metadata"]["name"]
        assert binding["metadata"]["name"].endswith(subject["name"])
        pick(objects, "ServiceAccount", subject["name"])


NAMED = {"watchNamespaces": ["team-b", "team-a", "vllm-system"]}


def test_with_named_namespaces_there_are_no_rights_outside_them() -> None:
    objects = render(NAMED)
    assert [o["kind"] for o in objects if o["kind"].startswith("ClusterRole")] == []
    for kind in ("Role", "RoleBinding"):
        namespaces = [o["metadata"]["namespace"] for o in objects if o["kind"] == kind]
        own = ["vllm-system"] * 2  # the Lease, the two Secrets
        assert sorted(namespaces) == sorted(["team-a", "team-b", "vllm-system"] * 2 + own)


@pytest.mark.parametrize("part", ["operator", "gateway"])
def test_the_rights_in_a_named_namespace_are_those_in_all(
    objects: list[Manifest], part: str
) -> None:
    name = f"vllm-system:vllm-endpoints-{part}"
    everywhere = pick(objects, "ClusterRole", name)["rules"]
    in_one = [o for o in render(NAMED) if o["kind"] == "Role" and o["metadata"]["name"] == name]
    assert [role["rules"] for role in in_one] == [everywhere] * 3


def test_roles_in_named_namespaces_are_bound_there_to_the_releases_accounts() -> None:
    for binding in (o for o in render(NAMED) if o["kind"] == "RoleBinding"):
        assert binding["roleRef"]["kind"] == "Role"
        assert binding["roleRef"]["name"] == binding["metadata"]["name"]
        (subject,) = binding["subjects"]
        assert subject["namespace"] == "vllm-system"
        assert binding["metadata"]["name"].endswith(subject["name"])


# -- pods --------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["operator", "gateway"])
def test_pods_satisfy_the_restricted_standard_with_a_read_only_root(
    objects: list[Manifest], part: str
) -> None:
    deployment = pick(objects, "Deployment", f"vllm-endpoints-{part}")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(deployment)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("drain_seconds", [1, 300, 3600])
def test_the_grace_period_has_room_for_withdrawal_and_drain(drain_seconds: int) -> None:
    deployment = pick(
        render({"gateway.drainSeconds": drain_seconds}), "Deployment", "vllm-endpoints-gateway"
    )
    withdrawal = container(deployment)["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace == withdrawal + drain_seconds + 10


def test_probes_and_services_use_ports_that_exist(objects: list[Manifest]) -> None:
    for part in ("operator", "gateway"):
        deployment = container(pick(objects, "Deployment", f"vllm-endpoints-{part}"))
        ports = {port["name"] for port in deployment["ports"]}
        probes = [value for key, value in deployment.items() if key.endswith("Probe")]
        assert {"readinessProbe", "livenessProbe"} <= deployment.keys()
        assert {probe["httpGet"]["port"] for probe in probes} <= ports
    service = pick(objects, "Service", "vllm-endpoints-gateway")
    assert [(p["port"], p["targetPort"]) for p in service["spec"]["ports"]] == [(80, "http")]


def test_selectors_select_the_pods_of_one_part_of_one_release() -> None:
    objects = render(release="one")
    labels = {
        o["metadata"]["name"]: o["spec"]["template"]["metadata"]["labels"]
        for o in objects
        if o["kind"] == "Deployment"
    }
    service = pick(objects, "Service", "one-vllm-endpoints-gateway")["spec"]["selector"]
    budget = pick(objects, "PodDisruptionBudget", "one-vllm-endpoints-gateway")["spec"]["selector"]
    for selector in (service, budget["matchLabels"]):
        matching = [name for name, has in labels.items() if selector.items() <= has.items()]
        assert matching == ["one-vllm-endpoints-gateway"]
    assert service["app.kubernetes.io/instance"] == "one"


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({}, ""),
        ({"gateway.externalUrl": "https://a.example.com/llm"}, "https://a.example.com/llm"),
        (INGRESS, "http://llm.example.com"),
        (TABLE["ingress-tls"], "https://llm.example.com"),
        ({**INGRESS, "gateway.externalUrl": "https://b"}, "https://b"),
        (TABLE["ingress-any-host"], ""),
        ({**INGRESS, "ingress.host": "*.example.com"}, ""),
    ],
    ids=["none", "given", "ingress", "tls", "given-wins", "any-host", "wildcard"],
)
def test_the_external_url_is_the_value_or_what_the_ingress_says(values: Values, url: str) -> None:
    operator = container(pick(render(values), "Deployment", "vllm-endpoints-operator"))
    assert {"name": "VLLM_ENDPOINTS_EXTERNAL_URL", "value": url} in operator["env"]


DOMAINS = {"gateway.hostDomains": [{"domain": "example.com"}, {"domain": "llm.example.org"}]}


@pytest.mark.parametrize(
    ("host", "hosts"),
    [
        (
            "llm.example.com",
            [
                *("llm.example.com", "example.com", "*.example.com"),
                *("llm.example.org", "*.llm.example.org"),
            ],
        ),
        (
            "*.example.com",
            ["*.example.com", "example.com", "llm.example.org", "*.llm.example.org"],
        ),
        ("", [None]),
    ],
    ids=["host", "wildcard", "any-host"],
)
def test_hosts_of_endpoints_reach_the_gateway(host: str, hosts: list[str | None]) -> None:
    ingress = pick(
        render({**DOMAINS, "ingress.enabled": True, "ingress.host": host}),
        *("Ingress", "vllm-endpoints-gateway"),
    )
    assert [rule.get("host") for rule in ingress["spec"]["rules"]] == hosts
    (backends,) = {yaml.safe_dump(rule["http"]) for rule in ingress["spec"]["rules"]}
    assert "vllm-endpoints-gateway" in backends


@pytest.mark.parametrize(
    ("values", "hosts"),
    [
        ({}, ""),
        (INGRESS, "llm.example.com"),
        ({**INGRESS, "gateway.externalUrl": "https://Ai.org:8443/x"}, "ai.org,llm.example.com"),
        ({**INGRESS, "ingress.host": "*.example.com"}, ""),
    ],
    ids=["none", "ingress", "both", "wildcard"],
)
def test_no_endpoint_can_have_a_host_of_the_gateway_itself(values: Values, hosts: str) -> None:
    operator = container(pick(render(values), "Deployment", "vllm-endpoints-operator"))
    assert {"name": "VLLM_ENDPOINTS_GATEWAY_HOSTS", "value": hosts} in operator["env"]


def test_both_parts_are_upgraded_pod_by_pod(objects: list[Manifest]) -> None:
    for part in ("operator", "gateway"):
        spec = pick(objects, "Deployment", f"vllm-endpoints-{part}")["spec"]
        assert spec["replicas"] == 2
        assert spec["strategy"]["type"] == "RollingUpdate"
        assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        budget = pick(objects, "PodDisruptionBudget", f"vllm-endpoints-{part}")["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == spec["selector"]


def test_an_operator_holds_the_lease_by_its_pods_name(objects: list[Manifest]) -> None:
    variables = container(pick(objects, "Deployment", "vllm-endpoints-operator"))["env"]
    named = {item["name"]: item for item in variables}
    field = named["VLLM_ENDPOINTS_IDENTITY"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "metadata.name"
    role = pick(objects, "Role", "vllm-endpoints-operator")
    assert [named["VLLM_ENDPOINTS_LEASE_NAME"]["value"]] in [
        rule.get("resourceNames") for rule in role["rules"]
    ]


# -- releases ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("vllm-endpoints", "vllm-endpoints-gateway"),
        ("my-vllm-endpoints-2", "my-vllm-endpoints-2-gateway"),
        ("llm", "llm-vllm-endpoints-gateway"),
        ("r" * 53, "r" * 53 + "-gateway"),
    ],
    ids=["product", "contains-it", "other", "longest"],
)
def test_names_begin_with_the_release_and_fit_into_dns_labels(release: str, name: str) -> None:
    objects = render(release=release)
    pick(objects, "Deployment", name)
    longest = max(len(o["metadata"]["name"]) for o in objects if o["metadata"].get("namespace"))
    assert longest <= 63


@pytest.mark.parametrize(
    "other",
    [{"release": "b"}, {"namespace": "b"}, {"release": "a-vllm", "namespace": "endpoints-a"}],
    ids=["release", "namespace", "both"],
)
@pytest.mark.parametrize("values", [{}, {"watchNamespaces": ["team-a"]}], ids=["all", "named"])
def test_two_releases_share_nothing_but_the_definitions(
    other: dict[str, str], values: Values
) -> None:
    def keys(objects: list[Manifest]) -> set[tuple[str, str, str]]:
        return {
            (o["kind"], o["metadata"].get("namespace", ""), o["metadata"]["name"])
            for o in objects
            if o["kind"] != "CustomResourceDefinition"
        }

    names = {"release": "a", "namespace": "a"} | other
    second = render(values, release=names["release"], namespace=names["namespace"])
    assert not keys(render(values, release="a", namespace="a")) & keys(second)


# -- custom resource definitions ---------------------------------------------------------


def test_definitions_are_the_generated_ones_and_kept_on_uninstall(objects: list[Manifest]) -> None:
    rendered = {
        o["metadata"]["name"]: o for o in objects if o["kind"] == "CustomResourceDefinition"
    }
    generated = [yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")]
    assert {definition["metadata"]["name"] for definition in generated} == rendered.keys()
    for definition in generated:
        kept = {"helm.sh/resource-policy": "keep"}
        definition["metadata"].setdefault("annotations", {}).update(kept)
        assert rendered[definition["metadata"]["name"]] == definition


def test_definitions_can_be_left_out() -> None:
    kinds = {o["kind"] for o in render({"crds.install": False})}
    assert "CustomResourceDefinition" not in kinds


@pytest.mark.parametrize("left", [None, "../../../crds"], ids=["nothing", "text"])
def test_a_copy_that_lost_the_link_to_the_definitions_says_so(
    tmp_path: Path, left: str | None
) -> None:
    # a checkout without symbolic links has a file with the link's text instead
    chart = tmp_path / "vllm-endpoints"
    shutil.copytree(CHART, chart, ignore=shutil.ignore_patterns("crds"))
    if left:
        (chart / "files" / "crds").write_text(left)
    with pytest.raises(HelmError, match=r"crds\.install=false"):
        render(chart=chart)


def test_a_package_renders_as_the_folder_does(tmp_path: Path, objects: list[Manifest]) -> None:
    helm("package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.glob("*.tgz")
    assert render(chart=package) == objects


# -- notes -------------------------------------------------------------------------------


def notes(values: Values | None = None) -> str:
    settings = flags(values or {})
    text = helm("install", "llm", CHART, "--dry-run=client", "-n", "vllm-system", *settings)
    return text.partition("NOTES:")[2]


def test_the_notes_lead_from_the_installation_to_an_answer() -> None:
    text = notes()
    for step in (
        "rollout status deployment/llm-vllm-endpoints-operator",
        "kubectl apply -f -",
        "kubectl wait inferenceendpoint/qwen --for=condition=Ready",
        "kubectl get secret me-api-key",
        "port-forward service/llm-vllm-endpoints-gateway",
        "/chat/completions",
    ):
        assert step in text


def test_the_notes_name_the_secrets_that_stay() -> None:
    operator = container(pick(render(release="llm"), "Deployment", "llm-vllm-endpoints-operator"))
    secrets = [item["value"] for item in operator["env"] if item["name"].endswith("_SECRET")]
    assert len(secrets) == 2
    text = notes()
    assert [name for name in secrets if name not in text] == []


def test_the_notes_name_the_address_that_the_values_give() -> None:
    text = notes(INGRESS)
    assert "OPENAI_BASE_URL=http://llm.example.com/v1" in text
    assert "port-forward" not in text


def test_the_notes_lead_into_a_namespace_that_is_served() -> None:
    text = notes({"watchNamespaces": ["team-b", "team-a"]})
    assert "metadata: {name: qwen, namespace: team-b}" in text
    assert "kubectl -n team-b wait inferenceendpoint/qwen" in text
    assert "$(kubectl -n team-b get secret me-api-key" in text
    assert "in these namespaces only: team-a, team-b, vllm-system" in text


def test_the_objects_in_the_notes_can_be_pasted() -> None:
    block = re.search(r"<<EOF\n(.*?)^EOF$", notes(), re.DOTALL | re.MULTILINE)
    assert block
    kinds = [document["kind"] for document in yaml.safe_load_all(block[1])]
    assert kinds == ["InferenceEndpoint", "ApiKey"]


def test_the_values_in_the_readme_install(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"^cat > values.yaml <<EOF\n(.*?)^EOF$", readme, re.DOTALL | re.MULTILINE)
    assert block
    file = tmp_path / "values.yaml"
    file.write_text(block[1].replace("$REGISTRY", "registry.example.com"))
    rendered = yaml.safe_load_all(helm("template", "vllm-endpoints", CHART, "-f", file))
    assert "Ingress" in {document["kind"] for document in rendered if document}


def test_the_password_for_shared_limits_comes_from_its_secret_alone() -> None:
    wanted = {"name": "redis", "key": "password"}
    values = {"gateway.limits.redis.passwordSecretRef": wanted}
    deployment = pick(render(values), "Deployment", "vllm-endpoints-gateway")
    variables = {each["name"]: each for each in container(deployment)["env"]}
    given = variables["VLLM_ENDPOINTS_LIMITS_REDIS_PASSWORD"]
    assert given == {"name": given["name"], "valueFrom": {"secretKeyRef": wanted}}


def test_the_authority_behind_shared_limits_is_where_the_gateway_looks_for_it() -> None:
    values = {"gateway.limits.redis.caSecretRef": {"name": "redis-tls", "key": "root.pem"}}
    deployment = pick(render(values), "Deployment", "vllm-endpoints-gateway")
    gateway = container(deployment)
    variables = {each["name"]: each.get("value") for each in gateway["env"]}
    mounts = {each["name"]: each["mountPath"] for each in gateway["volumeMounts"]}
    volumes = {each["name"]: each for each in deployment["spec"]["template"]["spec"]["volumes"]}
    given = variables["VLLM_ENDPOINTS_LIMITS_REDIS_CA_FILE"]
    assert given == f"{mounts['redis-ca']}/ca.crt"
    items = [{"key": "root.pem", "path": "ca.crt"}]
    assert volumes["redis-ca"]["secret"] == {"secretName": "redis-tls", "items": items}
