"""Discoveries as honest and hostile crawlers report them, around the group `team` with the id 7."""

from typing import Any

from hypothesis import strategies as st

SCOPE, SCOPE_ID = "team", "gid://gitlab/Group/7"
VICTIM, VICTIM_ID = "victim/secret", "gid://gitlab/Project/42"

_PATHS = [
    *(SCOPE, "Team", "TEAM/x", "team/sub", "team/sub/deep", "team/.x", "team/a..b", "team/_"),
    *(
        "teams",
        "teams/x",
        "team.x/y",
        "team-x",
        "te",
        "lab",
        "lab/tool",
        "LAB/other",
        "victim",
        VICTIM,
        "Victim/Secret",
    ),
    *(
        "team/../victim/secret",
        "team/./x",
        "team//x",
        "/team/x",
        "team/",
        "team/-x",
        "team/x.git",
        "team/x.atom",
    ),
    *(
        "team/x y",
        "team/\u00fc",
        "t\u0435am/x",
        "team\u200b/x",
        "\uff54eam/x",
        "team%2fx",
        "team/x\n",
        "team\\x",
        "",
        "/",
    ),
    *(
        "team/" + "a" * 255,
        "team/" + "a" * 256,
        "/".join(["team"] + ["a"] * 20),
        "/".join(["team"] + ["a"] * 21),
    ),
]
_SEGMENTS = st.sampled_from(
    ["team", "Team", "victim", "secret", "x", "..", ".", "", "x.git", "a-b", "\u212a"]
)

PATHS = st.sampled_from(_PATHS) | st.lists(_SEGMENTS, min_size=1, max_size=4).map("/".join)

IDS = st.sampled_from(
    [
        *(
            7,
            "7",
            SCOPE_ID,
            "gid://gitlab/Project/7",
            "gid://gitlab/Namespace/7",
            "07",
            " 7",
            "7 ",
            "\u0667",
            "\uff17",
        ),
        *(
            42,
            "42",
            VICTIM_ID,
            "gid://gitlab/Group/42",
            "gid://gitlab/User/42",
            "gid://gitlab/Project/42/../7",
        ),
        *(8, 9, "10", 11, "9" * 19, "9" * 20, 0, -1, "", "javascript:alert(1)//", "gid://other/Project/9"),
    ]
)

_KINDS = ("crawl_group", "crawl_project", "crawl_user", "discover_namespaces")
_NAMES = st.sampled_from(["tool", "<img src=x onerror=alert(1)>", "a\x1b[31m", "\u202e", "", "x" * 255])


def found() -> st.SearchStrategy[dict[str, Any]]:
    """Return items of jobs_discovered."""
    return st.fixed_dictionaries(
        {
            "job_type": st.sampled_from(_KINDS),
            "entity_id": IDS,
            "namespace_path": PATHS,
            "entity_name": _NAMES,
        }
    )


def _newer() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    items = st.lists(found(), min_size=1, max_size=4)
    return items.map(lambda some: ("jobs_discovered", {"discovered_jobs": some, "discovery_summary": {}}))


def _older() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    entity = st.fixed_dictionaries({"id": IDS, "name": _NAMES, "path": PATHS}, optional={"parentId": IDS})
    data = st.fixed_dictionaries(
        {
            "entityType": st.sampled_from(["group", "groups", "project", "projects", "user"]),
            "entities": st.lists(entity, min_size=1, max_size=4),
        }
    )
    return data.map(lambda some: ("discovery", some))


def discoveries() -> st.SearchStrategy[list[tuple[str, dict[str, Any]]]]:
    """Return one or two frames of an attempt, as type and data."""
    return st.lists(_newer() | _older(), min_size=1, max_size=2)


def reported_paths(frames: list[tuple[str, dict[str, Any]]]) -> set[str]:
    """Return the paths at which frames report the group of the order itself, by its id."""
    paths = set()
    for kind, data in frames:
        if kind == "discovery":
            items = data["entities"] if data["entityType"].startswith("group") else []
            paths |= {item["path"] for item in items if _is_scope(item["id"])}
        else:
            for item in data["discovered_jobs"]:
                if item["job_type"] in ("crawl_group", "discover_namespaces") and _is_scope(
                    item["entity_id"]
                ):
                    paths.add(item["namespace_path"])
    return paths


def _is_scope(id_: object) -> bool:
    return id_ in (7, "7", SCOPE_ID)
