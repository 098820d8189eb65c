"""The rules of lessons: the committed ones keep them, and a lesson that breaks one is caught."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.lessons.builder import build
from tests.paths import NOTEBOOKS, ROOT, SOURCES

SOURCE = """\
# %% [markdown] lang="en"
# # A line
# About 5 minutes to read, 8 with the exercises; the code runs in about 1 seconds.
# See $y = x$ and [the paper](https://arxiv.org/abs/2501.00663).
#
# $$y_t = x_t$$

# %% [markdown] lang="ja" en="{english}"
# # 直線
# 読むのに約5分、演習も解くと約8分、コードの実行に約1秒かかります。
# [論文](https://arxiv.org/abs/2501.00663)と $y = x$ を見ます。
#
# $$y_t = x_t$$

# %% [markdown]
# $1 + 1 = 2$

# %%
import base64, os
from pathlib import Path
def start(language="en"):
    print(Path.cwd().name, os.environ["MPLBACKEND"], language)

start()

# %%
class Picture:
    def __repr__(self):
        return "a picture"

    def _repr_mimebundle_(self, include=None, exclude=None):
        png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
        view = {{"version_major": 2, "version_minor": 0, "model_id": os.urandom(8).hex()}}
        data = {{"image/png": png, "text/plain": repr(self), "application/vnd.jupyter.widget-view+json": view}}
        return data, {{"image/png": {{"alt": "a dot" if Path.cwd().name == "en" else "点"}}}}
Picture()

# %% tags=["raises-exception"]
base64.b64decode("x")
"""
TIME = "About 5 minutes to read, 8 with the exercises; the code runs in about 1 seconds."
ENGLISH = f"# A line\n{TIME}\nSee $y = x$ and [the paper](https://arxiv.org/abs/2501.00663).\n\n$$y_t = x_t$$"


@pytest.fixture(scope="module", autouse=True)
def a_second():
    """Every build takes the second that the lesson states, however busy the machine is."""
    execute = build.execute

    def executed(*given):
        execute(*given)
        return 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "execute", executed)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with one correct lesson, built."""
    folder = tmp_path_factory.mktemp("lessons")
    (folder / "src").mkdir()
    (folder / "src" / "07_line.py").write_text(SOURCE.format(english=build.fingerprint(ENGLISH)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "agg")  # what a machine happens to have set must not reach a lesson
        assert build.main([], folder) == 0
    return folder


@pytest.fixture
def lesson(built, tmp_path):
    """A copy of it to break."""
    return Path(shutil.copytree(built, tmp_path / "notebooks"))


def source(folder):
    return folder / "src" / "07_line.py"


def edit(path, old, new):
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new).encode())


def notebook(folder, language):
    return json.loads((folder / language / "07_line.ipynb").read_text(encoding="utf-8"))


def test_both_languages_have_the_same_code_and_ids_and_their_own_words(built):
    english, japanese = notebook(built, "en"), notebook(built, "ja")
    assert [cell["id"] for cell in english["cells"]] == [cell["id"] for cell in japanese["cells"]]
    assert english["cells"][1]["source"][0] == "# A line\n"
    assert japanese["cells"][1]["source"][0] == "# 直線\n"
    assert english["cells"][2] == japanese["cells"][2]
    codes = [cells["cells"][3]["source"] for cells in (english, japanese)]
    assert [code.pop() for code in codes] == ["start()", 'start("ja")']
    assert codes[0] == codes[1]
    outputs = [cells["cells"][3]["outputs"][0]["text"] for cells in (english, japanese)]
    assert outputs == [
        [f"{language} module://matplotlib_inline.backend_inline {language}\n"] for language in ("en", "ja")
    ]
    pictures = [cells["cells"][4]["outputs"][0] for cells in (english, japanese)]
    assert [picture["metadata"] for picture in pictures] == [{"image/png": {"alt": alt}} for alt in ("a dot", "点")]
    assert pictures[0]["data"] == pictures[1]["data"]


GAPS = {  # what stands in a source, and what a notebook has
    "一行目、\n二行目。\n三行目": "一行目、二行目。三行目",
    "三行目\nend\n四行目": "三行目 end 四行目",
    "終わり。\n`code` です": "終わり。`code` です",
    "終わり。\n$x$ です": "終わり。$x$ です",
    "メモリ\n$M$ は": "メモリ $M$ は",
    "約\n16\nトークン": "約16トークン",
    "Ada\nは": "Ada は",
    "太字**です**\n次": "太字**です**次",
    "**太字です。**\n次": "**太字です。** 次",
    "English stays\nas it is": "English stays\nas it is",
    "# 題\n本文": "# 題\n本文",
    "- 項目\n  続き\n- 項目": "- 項目続き\n- 項目",
    "1. 項目\n2. 項目": "1. 項目\n2. 項目",
    "本文\n\n次の段落": "本文\n\n次の段落",
    "本文\n$$x$$\n本文": "本文\n$$x$$\n本文",
    "```\n一\n二\n```\n本文": "```\n一\n二\n```\n本文",
    "| 表 |\n| 行 |": "| 表 |\n| 行 |",
    "<details><summary>答え</summary>\n本文\n</details>": "<details><summary>答え</summary>\n本文\n</details>",
}


@pytest.mark.parametrize("text", GAPS)
def test_line_breaks_leave_no_gaps_in_japanese(text):
    assert build.joined(text) == GAPS[text]


def test_links_lead_to_the_lessons_before_and_after_the_map_and_the_other_language(tmp_path):
    sources = [tmp_path / "src" / f"{name}.py" for name in ("00_a", "03_b", "09_c")]
    sources[0].parent.mkdir()
    for path in sources:
        titles = (f'# %% [markdown] lang="{lang}"\n# # {path.stem} {lang}\n\n' for lang in build.LANGUAGES)
        path.write_text("".join(titles), encoding="utf-8")
    first, middle, last = (build.navigation.links(path, "ja") for path in sources)
    assert first == "[README](../../README_ja.md) | [English](../en/00_a.ipynb) | [03_b ja](03_b.ipynb) →"
    map_ = "[教材の地図（レッスン00の7節）](00_a.ipynb)"
    assert middle == f"← [00_a ja](00_a.ipynb) | {map_} | [English](../en/03_b.ipynb) | [09_c ja](09_c.ipynb) →"
    assert last == f"← [03_b ja](03_b.ipynb) | {map_} | [English](../en/09_c.ipynb)"


@pytest.mark.parametrize("language", build.LANGUAGES)
def test_answers_to_a_prediction_are_hidden_until_their_cell_is_run_and_no_others(language):
    for source in sorted(SOURCES.glob("[0-9][0-9]_*.py")):
        predicted, hidden = False, []
        for cell in build.unexecuted(source, build.read_source(source), language).cells:
            if cell.cell_type == "markdown":
                predicted = bool(
                    re.search(r"\*\*(Predict before you run\.|実行する前に予想してみましょう。)\*\*", cell.source)
                )
            else:
                hidden.append(cell.metadata.get("jupyter", {}).get("outputs_hidden", False))
                assert hidden[-1] == predicted, cell.source
        assert any(hidden)
        assert not all(hidden)


def test_a_notebook_holds_nothing_of_the_machine_that_built_it(built):
    english = notebook(built, "en")
    assert english["cells"][3]["outputs"][0]["text"] == ["en module://matplotlib_inline.backend_inline en\n"]
    assert english["cells"][4]["outputs"][0]["data"].keys() == {"image/png", "text/plain"}
    error = english["cells"][5]["outputs"][0]
    assert error["ename"] == "Error"
    assert not any("base64.py" in entry for entry in error["traceback"])
    assert any("In[3]" in entry for entry in error["traceback"])
    assert english["metadata"] == build.METADATA


def test_a_rebuild_changes_no_byte(lesson):
    notebooks = [lesson / language / "07_line.ipynb" for language in ("en", "ja")]
    before = [path.read_bytes() for path in notebooks]
    assert build.main(["07"], lesson) == 0
    assert [path.read_bytes() for path in notebooks] == before


def check(folder, capsys):
    """What --check complains about."""
    result = build.main(["--check"], folder)
    complaint = capsys.readouterr().err
    assert result == bool(complaint)
    return complaint


EDITS = {  # of the source: what is replaced, by what, and the complaint
    "code": ("print(", "print(1, ", "en/07_line.ipynb differs from its source, first at cell 'import base64, os'"),
    "shared prose": ("1 + 1", "1 + 2", "ja/07_line.ipynb differs from its source, first at cell '$1 + 2"),
    "tags": ('tags=["', 'tags=["new", "', "differs from its source, first at cell 'base64.b64decode"),
    "a new cell": ("# %%\nimport", "# %%\n1\n\n# %%\nimport", "differs from its source, first at cell '1'"),
    "English only": ("# See", "# Look at", "cell '# 直線': translates English text"),
    "no Japanese": (' lang="ja"', "", "cell '# A line': no Japanese cell directly after this English one"),
    "no English": (' lang="en"', "", "cell '# 直線': no English cell directly before this Japanese one"),
    "unknown language": ('lang="ja"', 'lang="jp"', "lang='jp' must be 'en' or 'ja'"),
    "code of one language": ("# %% tags", '# %% lang="en" tags', "lang='en' must be 'en' or 'ja' and on prose"),
    "equation": ("$y = x$ を", "$y = 2x$ を", "equations differ between English and Japanese cell"),
    "equation lost": ("# $$y_t = x_t$$\n\n# %% [markdown]\n", "#\n\n# %% [markdown]\n", "equations differ between"),
    "link": ("[論文](https", "[論文](http", "links differ between English and Japanese cell"),
    "heading": ("# # 直線", "# ## 直線", "heading levels differ between English and Japanese cell"),
    "markdown picture": ("# $1 + 1", "# ![](dot.png) $1 + 1", "a picture without alt text"),
    "time in one language": (
        "約5分、",
        "約6分、",
        "takes (5, 8, 1) minutes, minutes and seconds in English, (6, 8, 1)",
    ),
    "no time": ("About 5 minutes", "A while", "its first en cell must say 'About (\\\\d+) minutes to read, "),
    "long cell": ("# %%\nclass", "# %%\n" + "1\n" * 16 + "class", "25 lines of code, more than 15"),
    "folded formula": ("# $1 + 1", "# <details>$x$</details> $1 + 1", "a formula in <details>"),
    "no start": ("\nstart()\n", '\nstart("en")\n', "0 lines of code are start(), one must be"),
    "HTML picture": ("# $1 + 1", '# <img src="dot.png"> $1 + 1', "a picture without alt text"),
}


@pytest.mark.parametrize("name", EDITS)
def test_check_names_what_is_wrong_with_a_source(lesson, capsys, name):
    assert check(lesson, capsys) == ""
    old, new, message = EDITS[name]
    edit(source(lesson), old, new)
    assert message in check(lesson, capsys)


WARNING = {"output_type": "stream", "name": "stderr", "text": ["UserWarning: look out\n"]}
PICTURE = {"output_type": "display_data", "data": {"image/png": "iVBO"}, "metadata": {}}
LARGE = {"output_type": "display_data", "data": {"text/plain": "A" * 2_000_000}, "metadata": {}}
ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
CHANGES = {  # of a built notebook: which cell, its new fields, and the complaint
    "id": (3, {"id": "other"}, "ja/07_line.ipynb differs from its source, first at cell 'import base64, os'"),
    "outputs": (3, {"outputs": []}, "the outputs' kinds differ between the two notebooks"),
    "never executed": (3, {"execution_count": None}, "ja/07_line.ipynb, cell 'import base64, os': never executed"),
    "an error": (3, {"outputs": [ERROR]}, "holds an error"),
    "no error": (5, {"outputs": []}, "is tagged raises-exception and holds no error"),
    "a warning": (3, {"outputs": [WARNING]}, "holds a warning or other text on stderr: 'UserWarning: look out'"),
    "no alt text": (4, {"outputs": [PICTURE]}, "ja/07_line.ipynb, cell 'class Picture:': a picture without alt text"),
    "too large": (3, {"outputs": [LARGE]}, "ja/07_line.ipynb has 2.0 MB, more than 2 MB"),
}


def rewrite(folder, content):
    (folder / "ja" / "07_line.ipynb").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("name", CHANGES)
def test_check_names_what_is_wrong_with_a_cell(lesson, capsys, name):
    cell, fields, message = CHANGES[name]
    content = notebook(lesson, "ja")
    content["cells"][cell].update(fields)
    rewrite(lesson, content)
    assert message in check(lesson, capsys)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [({"widgets": {}}, "metadata.widgets is stored"), ({"kernelspec": {}}, "is not what the builder writes")],
)
def test_check_names_foreign_metadata(lesson, capsys, metadata, message):
    content = notebook(lesson, "ja")
    content["metadata"].update(metadata)
    rewrite(lesson, content)
    assert message in check(lesson, capsys)


def seconds(folder, number):
    (folder / build.SECONDS).write_text(json.dumps({"07_line": number}), encoding="utf-8")


@pytest.mark.parametrize(("number", "good"), [(1, True), (2, True), (3, False)])
def test_what_a_lesson_says_of_its_time_is_within_a_factor_of_two(lesson, capsys, number, good):
    seconds(lesson, number)
    complaint = check(lesson, capsys)
    assert (complaint == "") == good
    for language in () if good else build.LANGUAGES:
        assert f"says that its code runs in 1 s, and it ran 3 s (seconds.json), in {language}" in complaint


def test_a_lesson_whose_time_is_not_known_is_named(lesson, capsys):
    (lesson / build.SECONDS).unlink()
    assert check(lesson, capsys) == "src/07_line.py: how long it runs is not in seconds.json: build it\n"


def test_the_record_of_times_knows_no_other_lesson(lesson, capsys):
    (lesson / build.SECONDS).write_text(json.dumps({"07_line": 1, "08_gone": 3}), encoding="utf-8")
    assert check(lesson, capsys) == "seconds.json knows 08_gone, which has no source\n"


@pytest.mark.parametrize(("before", "ran", "after"), [(10, 19.0, 10), (10, 6.0, 10), (10, 21.0, 21), (10, 4.0, 4)])
def test_the_record_of_times_moves_only_when_it_no_longer_holds(lesson, before, ran, after):
    seconds(lesson, before)
    build.record(source(lesson), ran)
    assert build.measured(lesson) == {"07_line": after}


def test_check_names_missing_files(lesson, capsys):
    (lesson / "ja" / "07_line.ipynb").unlink()
    assert check(lesson, capsys) == "ja/07_line.ipynb is missing: build it\n"
    source(lesson).unlink()
    (lesson / build.SECONDS).unlink()
    assert check(lesson, capsys) == "en/07_line.ipynb has no source\n"


def test_check_lists_every_problem_at_once(lesson, capsys):
    edit(source(lesson), "# See", "# Look at")
    edit(source(lesson), "$y = x$ を", "$y = 2x$ を")
    problems = check(lesson, capsys).splitlines()
    assert len(problems) == 4  # out of date, another equation, and both notebooks differ from the source
    assert len(set(problems)) == 4


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_stamp_repairs_an_outdated_translation_and_changes_nothing_else(lesson, line_end):
    edit(source(lesson), "\n", line_end)
    edit(source(lesson), "# See", "# Look at")
    before = source(lesson).read_bytes().decode()
    assert build.main(["--stamp"], lesson) == 0
    new = build.fingerprint(ENGLISH.replace("See", "Look at"))
    assert source(lesson).read_bytes().decode() == before.replace(build.fingerprint(ENGLISH), new)
    assert list(build.source_problems(build.read_source(source(lesson)))) == []


def test_stamp_marks_a_translation_that_has_no_hash_yet(lesson):
    complete = source(lesson).read_bytes()
    edit(source(lesson), f' en="{build.fingerprint(ENGLISH)}"', "")
    build.main(["--stamp", "07"], lesson)
    assert source(lesson).read_bytes() == complete


@pytest.mark.parametrize(
    ("code", "limits", "message"),
    [
        ("1 / 0", {}, "ZeroDivisionError"),
        ("import time; time.sleep(30)", {"CELL_SECONDS": 1}, "the limit is 1 s a cell"),
        ("1", {"LESSON_SECONDS": 0}, "more than 0 s"),
    ],
)
def test_a_build_that_fails_says_where_and_why(lesson, capsys, monkeypatch, code, limits, message):
    for name, limit in limits.items():
        monkeypatch.setattr(build, name, limit)
    source(lesson).write_text(f"# %%\n{code}\n", encoding="utf-8")
    assert build.main([], lesson) == 1
    complaint = capsys.readouterr().err
    assert "07_line" in complaint
    assert message in complaint


def test_an_unknown_lesson_is_refused_by_name(lesson, capsys):
    with pytest.raises(SystemExit):
        build.main(["08"], lesson)
    assert "no lesson begins with 08; there are: 07_line" in capsys.readouterr().err


def test_the_committed_lessons_keep_every_rule(capsys):
    assert build.main(["--check"]) == 0, capsys.readouterr().err


PARTS = {  # of a lesson: how it begins in English and in Japanese, and how often it is there at least
    "goals": (r"^\*\*You will learn\*\*", r"^\*\*このレッスンで学ぶこと\*\*", 1),
    "needs": (r"^\*\*You need\*\*", r"^\*\*必要な知識\*\*", 1),
    "predictions": (r"\*\*Predict before you run\.\*\*", r"\*\*実行する前に予想してみましょう。\*\*", 3),
    "exercises": (r"^### Exercise \d: ", r"^### 演習\d：", 2),
    "hints": (r"<summary>Hint", r"<summary>ヒント", 2),
    "solutions": (r"<summary>Solution · 解答", r"<summary>Solution · 解答", 2),
    "summary": (r"^## Summary$", r"^## まとめ$", 1),
    "references": (r"^## References$", r"^## 参考文献$", 1),
}


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("??/*.ipynb")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_lesson_has_all_its_parts(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    for name, (english, japanese, least) in PARTS.items():
        pattern = english if path.parent.name == "en" else japanese
        assert len(re.findall(pattern, prose, flags=re.MULTILINE)) >= least, name
    exercises, solutions, hints = (
        len(re.findall(PARTS[name][path.parent.name == "ja"], prose, flags=re.MULTILINE))
        for name in ("exercises", "solutions", "hints")
    )
    assert exercises == solutions <= hints
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    told = ["".join(output.get("data", {}).get("text/plain", "")) for output in outputs]
    assert any(text.startswith(("Live picture", "動かせる図")) for text in told)


def test_maps_of_the_course_say_the_minutes_that_the_lessons_say():
    start = next(SOURCES.glob("00_*.py"))
    names = [f"{page}{language}.md" for page in ("README", "notebooks/LESSONS") for language in ("", "_ja")]
    maps = {name: (ROOT / name).read_text(encoding="utf-8") for name in names}
    maps["lesson 00"] = start.read_text(encoding="utf-8").replace("\n# |", "\n|")
    for source in sorted(start.parent.glob("[0-9][0-9]_*.py")):
        to_read, in_all, _ = build.stated_time(build.read_source(source), "en")
        for name, text in maps.items():
            rows = re.findall(rf"^\| {source.name[:2]} \|(.*)\|$", text, flags=re.MULTILINE)
            said = [tuple(map(int, re.findall(r"\d+", "".join(re.findall(r"\| \d+ [/|] \d+ ", row))))) for row in rows]
            assert said == [(to_read, in_all)] * (2 if name == "lesson 00" else 1), (source.stem, name)


def texts():
    """Everything that people read here, as (file, text)."""
    for path in (*ROOT.glob("*.md"), *ROOT.glob(".github/*.md"), *NOTEBOOKS.glob("*.md")):
        yield path, path.read_text(encoding="utf-8")
    for path in sorted(NOTEBOOKS.glob("??/*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path, "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def test_links_inside_the_repository_resolve():
    links = [
        (path, link)
        for path, text in texts()
        for link in re.findall(r"\]\(\s*([^)\s#]+)[^)]*\)", text)
        if not re.match(r"[a-z]+:", link)
    ]
    lost = [f"{path.relative_to(ROOT)}: {link}" for path, link in links if not (path.parent / link).exists()]
    assert lost == []


def test_the_example_of_a_source_in_the_contributors_guide_is_right(tmp_path):
    guide = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    example = tmp_path / "02_example.py"
    example.write_text(re.search(r"```python\n(.*?)```", guide, flags=re.DOTALL)[1], encoding="utf-8")
    assert list(build.source_problems(build.read_source(example))) == []


CLAIMS = "lesson\tclaim\tdecided by\n"
WHY = "# It is so because\n# the sum is 2. Nobody asked.\n"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("", "claims.tsv has no row for 'It is so because the sum is 2.'"),
        ("07\tbecause the sum is 2\tcell: print(Path.cwd().name", ""),
        ("07\tbecause the sum is 2\ttests/lessons/test_notebooks.py::test_the_committed_lessons_keep_every_rule", ""),
        ("07\tbecause the sum is 3\tcell: print(Path", "lesson 07 does not say 'because the sum is 3'"),
        ("07\tbecause the sum is 2\tcell: import", "decided by a cell with 'import', of which there are 2"),
        ("07\tbecause the sum is 2\tcell: nowhere", "decided by a cell with 'nowhere', of which there are 0"),
        ("07\tbecause the sum is 2\tcommon sense", "which is neither 'cell: ...' nor a test's file"),
        ("07\tbecause the sum is 2\ttests/lessons/test_notebooks.py::test_x", "decided by 'test_x', which"),
        ("07\tbecause the sum is 2\ttests/lessons/gone.py::test_x", "nor a test's file"),
    ],
)
def test_what_a_lesson_gives_as_a_reason_has_a_row_that_decides_it(lesson, monkeypatch, row, complaint):
    edit(source(lesson), "# See $y", WHY + "# See $y")
    edit(source(lesson), "import base64, os\n", "import base64, os\nimport re\n")
    edit(source(lesson), "# %%\nclass Picture:", "# %%\nimport abc\n\n\nclass Picture:")
    (lesson / "claims.tsv").write_text(CLAIMS + row + "\n", encoding="utf-8")
    rows = build.claims.read(lesson)
    found = list(build.claims.problems("07", build.read_source(source(lesson)), rows, ROOT))
    assert (found == []) == (complaint == "")
    assert complaint in "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "# Is it so because the sum is 2?\n",
        "# <details><summary>Hint</summary>\n#\n# It is so because the sum is 2.\n#\n# </details>\n",
    ],
)
def test_questions_and_hints_claim_nothing(lesson, text):
    edit(source(lesson), "# See $y", text + "#\n# See $y")
    assert list(build.claims.problems("07", build.read_source(source(lesson)), [], ROOT)) == []


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("??/*.ipynb")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_bold_is_bold(path):
    """Between Japanese letters Markdown does not end bold after a full stop, nor begin it before a bracket."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    tokens = [child for text in texts for token in MarkdownIt().parse(text) for child in token.children or ()]
    assert [token.content for token in tokens if token.type == "text" and "**" in token.content] == []


def test_all_lessons_run_in_five_minutes_together_and_none_longer_than_one():
    seconds = json.loads((ROOT / "notebooks" / "seconds.json").read_text(encoding="utf-8"))
    assert seconds.keys() == {source.stem for source in SOURCES.glob("*.py")}
    assert sum(seconds.values()) <= 300
    assert max(seconds.values()) <= 60
