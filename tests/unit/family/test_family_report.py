"""The report of a planted family: its figures, its files, and a page that hostile names cannot change."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from switchablecompat.evaluation.task import RetrievalTask, undefined_cells
from switchablecompat.family.page.page import render_page
from switchablecompat.family.page.plots import histogram_charts
from switchablecompat.family.report import build_report, short_names
from switchablecompat.family.report_files import render_queries, write_report

HOSTILE = "\"><svg onload=alert(1)><script src=x>&amp;'.png"
VOID = {"meta", "img", "br", "link", "input", "hr"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two queries and three gallery items with names that try to leave their place."""
    folder = tmp_path_factory.mktemp("images")
    names = [f"{side}/{number}{HOSTILE}" for side, count in (("query", 2), ("gallery", 3)) for number in range(count)]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (600, 900), (40 * number, 90, 30)).save(folder / name, format="PNG")
    return [str(folder / name) for name in names]


# Angles in degrees; identities 1 and 2, a wrong third. Alone, both sub-models find both queries' items. On the gallery
# of w100, whose items lie elsewhere, query 0 of w050 meets item 2 (identity 3), then item 1, then its own.
PIDS = torch.tensor([1, 2, 1, 2, 3])
CAMIDS = torch.tensor([0, 0, 1, 1, 1])
ANGLES = {0.5: [0.0, 90.0, 5.0, 95.0, 45.0], 1.0: [60.0, 170.0, 65.0, 175.0, 10.0]}


def planted(images, dataset="toy", angles=ANGLES, undefined=(), diagonal_only=False, **options):
    features = {}
    for width, degrees in angles.items():
        turned = torch.deg2rad(torch.tensor(degrees))
        features[width] = torch.stack([turned.cos(), turned.sin()], dim=1)
    undefined = undefined_cells([*features], undefined, diagonal_only=diagonal_only)
    return report_of(features, (PIDS, CAMIDS), images, 2, dataset, undefined=undefined, **options)


def report_of(features, labels, images, num_query, dataset="toy", **options):
    """The report of features by width."""
    sides = slice(num_query), slice(num_query, None)
    task = RetrievalTask.of_images([*features], [*features.values()], labels, *sides, dataset=dataset, **options)
    return build_report(task, [*zip(images, *(of.tolist() for of in labels), strict=True)])


@pytest.fixture(scope="module")
def report(images):
    """The planted family with nothing left out."""
    return planted(images, metadata={"seed": 7})


@pytest.fixture(scope="module")
def source(report):
    """Its page."""
    return render_page(report)


class Page(HTMLParser):
    """What a browser would see: tags with attributes, text, and whether every tag is closed in order."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_figures_are_those_of_the_planted_family(report):
    content = report.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["grid"]["seed"] == 7
    # Query 0 of w050 at 0 degrees: gallery of w100 at 65 (right), 175 and 10: second. Query 1 at 90: 65, 175 (right)
    # and 10 are 25, 85 and 80 away: third.
    assert content["grid"]["mAP"][0] == [100.0, pytest.approx(100 * (1 / 2 + 1 / 3) / 2)]
    assert content["cmc"]["w050/w100"] == [0.0, 50.0, 100.0]
    assert content["cmc"]["w050/w050"] == [100.0] * 3
    pairs = content["histograms"]["pairs"]["w050/w050"]
    assert (sum(pairs["genuine"]), sum(pairs["impostor"])) == (2, 4)
    at_five_degrees = content["histograms"]["lower_edges"].index(0.98)
    assert pairs["genuine"][at_five_degrees] == 2  # cos 5 is 0.9962
    assert content["negative_flips"]["per_cent"][0] == [None, 100.0]
    own = [one["own"]["w050/w100"] for one in content["verification"]]
    assert [point["threshold"] for point in own] == [None] * 3
    assert own[0]["reason"] == "4 impostor pairs are too few for FAR 0.01, which needs 1000"
    mixed = content["mixed_gallery"]
    for curve in [*mixed["random"]["w050"], mixed["isolated"]["w050"]]:
        assert [curve[0], curve[-1]] == content["grid"]["mAP"][0]


def test_the_worst_queries_come_with_what_they_found(report):
    found = {one.query.name[6]: one for one in report.lost}
    flip = found["1"].flip
    assert (flip.query, flip.q, flip.g, flip.rank) == (1, 0, 1, 3)
    assert [found["1"].alone.pid, found["1"].crossed.pid] == [2, 1]
    assert [found["1"].alone.camid, found["1"].query.camid] == [1, 0]


def test_the_table_has_every_query_in_every_cell(images):
    report = planted(images, undefined=[(1.0, 1.0)])
    rows = list(csv.DictReader(io.StringIO(render_queries(report))))
    assert [(row["query"], row["pid"], row["camid"]) for row in rows] == [
        (f"query/0{HOSTILE}", "1", "0"),
        (f"query/1{HOSTILE}", "2", "0"),
    ]
    assert [float(row["AP w050/w100"]) for row in rows] == [pytest.approx(1 / 2), pytest.approx(1 / 3)]
    assert [row["first_hit_rank w050/w100"] for row in rows] == ["2", "3"]
    assert "AP w100/w100" not in rows[0]


def test_a_query_without_a_match_has_empty_fields(images):
    pids = torch.tensor([9, 2, 1, 2, 3])
    report = report_of({1.0: torch.randn(5, 2)}, (pids, CAMIDS), images, 2)
    rows = list(csv.DictReader(io.StringIO(render_queries(report))))
    assert (rows[0]["AP w100/w100"], rows[0]["first_hit_rank w100/w100"]) == ("", "")
    assert float(rows[1]["AP w100/w100"]) > 0


def test_hostile_names_stay_text(images):
    report = planted(images, dataset=HOSTILE, metadata={"method": "<u>", "versions": {"<i>": "</dd>"}})
    page = Page(render_page(report))
    tags = {tag for tag, _ in page.tags}
    assert not {"script", "u", "i"} & tags
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert f"Compatibility report: {HOSTILE}, <u>" in page.text
    assert "<i> </dd>" in page.text
    assert f"query/1{HOSTILE}" in page.text
    alts = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert f"query: query/1{HOSTILE}, identity 2, camera 0" in alts


def test_the_page_needs_nothing_else(source):
    page = Page(source)
    for tag, attributes in page.tags:
        assert attributes.get("src", "data:").startswith("data:"), tag
        assert attributes.get("href", "#").startswith("#"), tag
    assert not re.search(r"url\(|@import", source)
    policy = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_contents_lead_to_their_sections_and_pictures_have_words(source):
    page = Page(source)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    links = [attributes["href"][1:] for tag, attributes in page.tags if tag == "a"]
    assert len({*ids}) == len(ids) == 8
    assert {*links} == {*ids}
    for tag, attributes in page.tags:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_frames_say_which_answer_is_right(source):
    page = Page(source)
    states = [attributes["class"] for tag, attributes in page.tags if tag == "figure" and "class" in attributes]
    assert states[:3] == ["", "right", "wrong"]


def test_numbers_on_the_page_are_the_reports(images):
    generator = torch.Generator().manual_seed(0)
    pids = torch.arange(40).repeat(4)
    camids = torch.arange(4).repeat_interleave(40)
    features = torch.randn(40, 16, generator=generator)[pids]
    noisy = {
        width: F.normalize(features + noise * torch.randn(160, 16, generator=generator))
        for width, noise in ((0.5, 1.0), (1.0, 0.5))
    }
    report = report_of(noisy, (pids, camids), images[:1] * 160, 40)
    page = Page(render_page(report))
    content = report.to_dict()
    easiest, harder, _ = content["verification"]
    assert harder["pooled"]["threshold"] is None  # 4680 impostor pairs
    assert "4680 impostor pairs are too few for FAR 0.001, which needs 10000" in page.text
    pooled = easiest["pooled"]
    assert f"{pooled['threshold']:.4f}" in page.text
    for name, point in pooled["cells"].items():
        assert f"{point['TAR']:.2f}" in page.text, name
        assert f"FAR {point['FAR'] / 0.01:.2f}\N{MULTIPLICATION SIGN}" in page.text, name
    marked = [
        attributes for tag, attributes in page.tags if tag == "td" and "bad" in attributes.get("class", "").split()
    ]
    over = sum(point["FAR"] > 0.01 for point in pooled["cells"].values())
    assert len(marked) == over + len(content["grid"]["compatibility"]["failed_cells"])
    assert 0 < over < 4
    worst = max(pooled["cells"], key=lambda name: pooled["cells"][name]["FAR"])
    assert pooled["highest_FAR"] == worst
    for value in np.ravel(content["grid"]["mAP"]):
        assert f"{value:.2f}" in page.text


def test_a_collapsed_model_has_a_page(images):
    """All features are equal, as after a training that has failed: all similarities are 1."""
    collapsed = dict.fromkeys((0.5, 1.0), torch.eye(1, 8).repeat(5, 1))
    report = report_of(collapsed, (PIDS, CAMIDS), images, 2)
    page = Page(render_page(report))
    assert "genuine pairs 2, mean 1.00" in " ".join(one.get("aria-label", "") for _, one in page.tags)


def test_lost_queries_show_a_right_item_alone_and_a_wrong_one_crossed(images):
    """In the gallery of w100, each item has a double of another identity. Rounding decides which of them is first."""
    people, dimension = 100, 512
    generator = torch.Generator().manual_seed(0)
    own, other = (F.normalize(torch.randn(people, dimension, generator=generator)) for _ in range(2))
    double = F.normalize(own + 1e-7 * torch.randn(people, dimension, generator=generator))
    features = {0.5: torch.cat([own, own, other]), 1.0: torch.cat([own, own, double])}
    pids = torch.cat([torch.arange(people), torch.arange(2 * people)])
    camids = torch.tensor([0, 1, 1]).repeat_interleave(people)
    report = report_of(features, (pids, camids), images[:1] * 3 * people, people)
    assert len(report.lost) > 5
    for one in report.lost:
        assert one.alone.pid == one.query.pid
        assert one.crossed.pid != one.query.pid


def test_genuine_pairs_are_drawn_where_they_are(report, source):
    # In the self-tests, genuine pairs are at 5 degrees, impostors at 40 to 95.
    alone = next(one for one in histogram_charts(report, None) if one["name"] == "w050/w050")
    shown = {key: re.search(rf'<path class="area {key}" d="M([^"]*)"', alone["chart"]).group(1) for key in ("s0", "s1")}
    tops = {}
    for key, path in shown.items():
        points = [tuple(map(float, point.split())) for point in path.split("L")]
        tops[key] = min(points, key=lambda point: point[1])[0]  # the picture's y goes down
    assert tops["s0"] > tops["s1"]
    assert [alone["row"], alone["column"]] == [1, 1]
    assert re.search(r'class="area s0".*?</svg>genuine', source)
    assert re.search(r'class="area s1".*?</svg>impostor', source)


def test_files_appear_together_and_the_page_is_small(report, tmp_path):
    paths = write_report(report, tmp_path / "new")
    assert [path.name for path in paths] == ["report.json", "queries.csv", "report.html"]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)
    assert json.loads(paths[0].read_text()) == report.to_dict()
    assert paths[2].stat().st_size < 200_000  # pictures of 600x900 pixels are shrunk


@pytest.mark.parametrize(
    ("angles", "options"),
    [({1.0: ANGLES[1.0]}, {}), (ANGLES, {"diagonal_only": True}), (ANGLES, {"undefined": [(1.0, 1.0)]})],
    ids=["one sub-model", "diagonal", "undefined"],
)
def test_parts_that_are_not_defined_are_left_out(images, angles, options):
    report = planted(images, angles=angles, **options)
    content = report.to_dict()
    assert content["mixed_gallery"] is None
    page = Page(render_page(report))
    assert "Not rehearsed" in page.text
    assert len(content["cmc"]) == sum(value is not None for value in np.ravel(content["grid"]["mAP"]))


def test_names_leave_out_what_all_paths_share_and_can_be_printed(tmp_path):
    undecodable = b"\xff.png".decode("utf-8", "surrogateescape")
    names = short_names([f"{tmp_path}/a/x.png", f"{tmp_path}/b/c/y.png", f"{tmp_path}/b/{undecodable}"])
    assert names == ["a/x.png", "b/c/y.png", "b/\\xff.png"]
    "".join(names).encode("utf-8")
    assert short_names([f"{tmp_path}/a/x.png"]) == ["x.png"]
