"""What programs in Python do with the official client: `objects.py KUBECONFIG`. Ends with 0 if all of it works.

With a resource version behind it: what they do when that is too old to watch from.
"""

import json
import sys
import threading

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock

NAMESPACE = "default"


def refused(code, call, *args, **more):
    """A call that the server must refuse with this code."""
    try:
        call(*args, **more)
    except ApiException as refusal:
        assert refusal.status == code, refusal
        return refusal
    raise AssertionError(f"{call} was not refused")


def deployment(replicas):
    labels = {"app": "web"}
    container = client.V1Container(
        name="c", image="i", ports=[client.V1ContainerPort(container_port=80)]
    )
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels=labels),
        spec=client.V1PodSpec(containers=[container]),
    )
    spec = client.V1DeploymentSpec(
        replicas=replicas,
        selector=client.V1LabelSelector(match_labels=labels),
        template=template,
    )
    return client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=spec)


def typed_objects(api):
    apps = client.AppsV1Api(api)
    made = apps.create_namespaced_deployment(NAMESPACE, deployment(2))
    assert made.metadata.creation_timestamp.tzinfo and made.spec.strategy.rolling_update.max_surge == "25%"
    refused(409, apps.create_namespaced_deployment, NAMESPACE, deployment(2))
    made.spec.replicas = 3
    replaced = apps.replace_namespaced_deployment("web", NAMESPACE, made)
    assert replaced.spec.replicas == 3 and replaced.metadata.generation == 2
    # By now the first answer is of an old version.
    made.spec.replicas = 4
    refused(409, apps.replace_namespaced_deployment, "web", NAMESPACE, made)
    dry = apps.replace_namespaced_deployment("web", NAMESPACE, deployment(9), dry_run="All")
    assert dry.spec.replicas == 9
    assert apps.read_namespaced_deployment("web", NAMESPACE).spec.replicas == 3
    scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
    scale.spec.replicas = 5
    assert apps.replace_namespaced_deployment_scale("web", NAMESPACE, scale).spec.replicas == 5
    refusal = refused(422, apps.create_namespaced_deployment, NAMESPACE, deployment(-1))
    assert "must be greater than or equal to 0" in refusal.body, refusal.body


def patches(api):
    """The client sends a list as a JSON patch, and all else as a strategic merge patch."""
    apps = client.AppsV1Api(api)
    more = {"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "j"}]}}}}
    strategic = apps.patch_namespaced_deployment("web", NAMESPACE, more)
    assert sorted(c.name for c in strategic.spec.template.spec.containers) == ["c", "d"]
    operation = [{"op": "replace", "path": "/spec/minReadySeconds", "value": 7}]
    refused(422, apps.patch_namespaced_deployment, "web", NAMESPACE, operation)
    operation[0]["op"] = "add"
    assert apps.patch_namespaced_deployment("web", NAMESPACE, operation).spec.min_ready_seconds == 7
    dynamic_apps = dynamic.DynamicClient(api).resources.get(api_version="apps/v1", kind="Deployment")
    merge = {"spec": {"template": {"spec": {"containers": [{"name": "e", "image": "k"}]}}}}
    merged = dynamic_apps.patch(
        body=merge, name="web", namespace=NAMESPACE, content_type="application/merge-patch+json"
    )
    assert [c.name for c in merged.spec.template.spec.containers] == ["e"]


def watches(api):
    core = client.CoreV1Api(api)
    first = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version

    def make():
        for number in range(5):
            name = f"w{number}"
            core.create_namespaced_config_map(
                NAMESPACE, {"metadata": {"name": name, "labels": {"of": "watch"}}, "data": {"n": str(number)}}
            )
        core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="of=watch")

    maker = threading.Thread(target=make)
    maker.start()
    seen, watching = [], watch.Watch()
    selection = {"label_selector": "of=watch", "resource_version": first}
    for event in watching.stream(core.list_namespaced_config_map, NAMESPACE, timeout_seconds=30, **selection):
        assert isinstance(event["object"], client.V1ConfigMap)
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 10:
            watching.stop()
    maker.join()
    assert sorted(seen) == sorted((t, f"w{n}") for t in ("ADDED", "DELETED") for n in range(5)), seen
    # From where it stopped, nothing comes twice.
    later = list(
        watch.Watch().stream(
            core.list_namespaced_config_map,
            NAMESPACE,
            label_selector="of=watch",
            timeout_seconds=1,
            resource_version=watching.resource_version,
        )
    )
    assert later == [], later
    pages, token = [], None
    for number in range(5):
        core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": f"p{number}", "labels": {"of": "pages"}}})
    while token != "":
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="of=pages", limit=2, _continue=token)
        pages.append([item.metadata.name for item in page.items])
        token = page.metadata._continue or ""
    assert pages == [["p0", "p1"], ["p2", "p3"], ["p4"]], pages


def too_old(api, version):
    """A watch from before what is remembered ends with 410, which is when a program lists anew and goes on."""
    core = client.CoreV1Api(api)
    try:
        for event in watch.Watch().stream(
            core.list_namespaced_config_map, NAMESPACE, resource_version=version, timeout_seconds=5
        ):
            raise AssertionError(event)
    except ApiException as gone:
        assert gone.status == 410, gone
    else:
        raise AssertionError(f"a watch from {version} was answered")
    fresh = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "resumed"}})
    for event in watch.Watch().stream(
        core.list_namespaced_config_map, NAMESPACE, resource_version=fresh, timeout_seconds=30
    ):
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "resumed"), event
        break


def custom_objects(api):
    schema = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1}}},
            "status": {"type": "object", "properties": {"said": {"type": "string"}}},
        },
    }
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "snakes.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "snakes", "singular": "snake", "kind": "Snake"},
            "versions": [version],
        },
    }
    client.ApiextensionsV1Api(api).create_custom_resource_definition(definition)
    custom, where = client.CustomObjectsApi(api), ("example.com", "v1", NAMESPACE, "snakes")
    snake = {"apiVersion": "example.com/v1", "kind": "Snake", "metadata": {"name": "s"}, "spec": {"size": 1}}
    custom.create_namespaced_custom_object(*where, snake)
    patched = custom.patch_namespaced_custom_object(*where, "s", {"spec": {"size": 2}})
    assert patched["spec"]["size"] == 2
    said = custom.patch_namespaced_custom_object_status(*where, "s", {"status": {"said": "hiss"}})
    assert said["status"]["said"] == "hiss" and said["metadata"]["generation"] == 2
    refused(422, custom.patch_namespaced_custom_object, *where, "s", {"spec": {"size": 0}})
    assert len(custom.list_namespaced_custom_object(*where)["items"]) == 1
    custom.delete_namespaced_custom_object(*where, "s")
    refused(404, custom.get_namespaced_custom_object, *where, "s")


def server_side_apply(api):
    maps = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")

    def apply(manager, data, **more):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": data}
        return maps.patch(
            # This client has words for JSON alone; any JSON is YAML.
            body=json.dumps(body),
            name="applied",
            namespace=NAMESPACE,
            content_type="application/apply-patch+yaml",
            field_manager=manager,
            **more,
        )

    assert apply("one", {"a": "1", "b": "1"}).to_dict()["data"] == {"a": "1", "b": "1"}
    try:
        apply("two", {"a": "2"})
        raise AssertionError("a conflict was overlooked")
    except dynamic.exceptions.ConflictError as conflict:
        assert b'conflict with \\"one\\": .data.a' in conflict.body, conflict.body
    apply("one", {"b": "1"})
    taken = apply("two", {"a": "2"})
    assert taken.to_dict()["data"] == {"a": "2", "b": "1"}, taken.data
    managers = sorted(entry.manager for entry in taken.metadata.managedFields)
    assert managers == ["one", "two"], managers


def leader_election(api, file):
    """One of two leads, and the other once the first has gone."""
    led, done = [], threading.Event()

    class Gone(Exception):
        pass

    def run(identity, on_started):
        lock = ConfigMapLock("leader", NAMESPACE, identity)
        settings = electionconfig.Config(
            lock,
            lease_duration=3,
            renew_deadline=2,
            retry_period=1,
            onstarted_leading=on_started,
            onstopped_leading=None,
        )
        election = leaderelection.LeaderElection(settings)
        if election.acquire():
            on_started()

    config.load_kube_config(file)
    run("first", lambda: led.append("first"))
    second = threading.Thread(target=run, args=("second", lambda: (led.append("second"), done.set())), daemon=True)
    second.start()
    assert done.wait(30), led
    assert led == ["first", "second"], led


def main(file, version=None):
    api = config.new_client_from_config(file)
    if version:
        too_old(api, version)
        return
    code = client.VersionApi(api).get_code()
    assert code.minor == "36" and code.git_version.startswith("v1.36."), code
    for part in (typed_objects, patches, watches, custom_objects, server_side_apply):
        part(api)
        print(part.__name__, flush=True)
    leader_election(api, file)
    print("leader_election", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
