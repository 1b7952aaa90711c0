"""The doctor's questions about what is installed beside Kubeflow Pipelines."""

from collections.abc import Iterator

from caloforge.cluster import Refused
from caloforge.pipelines.findings import Finding, Site
from caloforge.pipelines.products import OPTIMIZER, PRODUCTS, RUNTIMES, Part, Product, age, is_served, served
from caloforge.pipelines.rights import USES, Use

_ASKED: dict[Part, tuple[tuple[Use, ...], str]] = {
    "kserve": (("deploy",), "leave deploy empty"),
    "katib": (("tune",), "tuning: {backend: local}"),
    "trainer": (("distribute", "search"), "distributed: {nodes: 1}"),
}
"""What each product is for, and the setting that does without it."""

_POD_FIELDS = {"runtimePatches", "podTemplateOverrides"}
"""Fields of a TrainJob by which its pods get volumes; Trainer 2.0 has neither."""


def check_products(site: Site) -> Iterator[Finding]:
    """Are KServe, Katib and Trainer installed, in a version that we speak?"""
    for part, (uses, otherwise) in _ASKED.items():
        yield _product(site, PRODUCTS[part], uses, f"   # or {otherwise} in the settings")
    if "search" in site.wanted:
        yield _product(site, OPTIMIZER, ("search",), "")


def check_runtime(site: Site) -> Iterator[Finding]:
    """Is the runtime of distributed trainings there?"""
    product = PRODUCTS["trainer"]
    if not is_served(site.get, product):
        return  # which is said elsewhere
    name = site.settings.distributed.runtime
    try:
        site.get(f"/apis/{product.group}/{product.version}/clustertrainingruntimes/{name}")
    except Refused as error:
        if error.status == 404:
            yield Finding(site.missing("distribute"), f"ClusterTrainingRuntime {name} is not there", RUNTIMES)
        else:
            look = f"kubectl get clustertrainingruntime {name}"
            yield Finding("unknown", f"ClusterTrainingRuntime {name} may not be seen", look)
    else:
        yield Finding("ok", f"ClusterTrainingRuntime {name}")


def _product(site: Site, product: Product, uses: tuple[Use, ...], otherwise: str) -> Finding:
    """Return what is to be said of a product, in one finding."""
    state, fix = site.missing(*uses), product.install + otherwise
    purpose = f"to {USES[uses[0]]}"
    wanted = {kind.plural for kind in product.kinds}
    there = served(site.get, product.group)
    known = f"{product.group}/{product.version}"
    if wanted <= there.get(product.version, set()):
        if product is PRODUCTS["trainer"] and _is_trainer_2_0(site):
            text = f"{product.name} is older than 2.1: its TrainJobs cannot give pods volumes, {purpose}"
            return Finding(state, text, fix)
        return Finding("ok", f"{product.name}: {', '.join(sorted(wanted))} in {known}")
    if others := sorted((version for version, kinds in there.items() if wanted <= kinds), key=age):
        is_newer = age(others[-1]) > age(product.version)
        text = (
            f"{product.name} is {'newer' if is_newer else 'older'} than is known here: it has {product.group} in "
            f"{', '.join(others)}, we speak {product.version}, {purpose}"
        )
        return Finding(state, text, f"pip install --upgrade caloforge{otherwise}" if is_newer else fix)
    if product is PRODUCTS["trainer"] and "pytorchjobs" in served(site.get, "kubeflow.org").get("v1", set()):
        text = f"{product.name} is not installed, only the Training Operator 1, which has no TrainJobs, {purpose}"
        return Finding(state, text, fix)
    return Finding(state, f"{product.name} is not installed ({known}), {purpose}", fix)


def _is_trainer_2_0(site: Site) -> bool:
    """Return whether TrainJobs lack the fields that we need; False where the schema may not be seen."""
    product = PRODUCTS["trainer"]
    try:
        schemas = site.get(f"/openapi/v3/apis/{product.group}/{product.version}")["components"]["schemas"]
    except (Refused, KeyError, TypeError):
        return False
    fields = [
        set(schema["properties"]["spec"]["properties"])
        for schema in schemas.values()
        if any(kind.get("kind") == "TrainJob" for kind in schema.get("x-kubernetes-group-version-kind", []))
        and "spec" in schema.get("properties", {})
    ]
    return bool(fields) and not any(_POD_FIELDS & known for known in fields)
