"""The table as text: a line a row while it is measured, and the sections between the pages' markers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .timing import KEEP_FREED

Record = dict[str, Any]  # a row of results.json

SPACE = "\u00a0"  # between a number and its unit, where no line breaks
START, FRONT, END = "<!-- benchmark -->", "<!-- benchmark: front -->", "<!-- /benchmark -->"
# All rows, and the front page's: the file, its first marker and its language.
PAGES = {
    "notebooks/SPEED.md": (START, "en"),
    "notebooks/SPEED_ja.md": (START, "ja"),
    "README.md": (FRONT, "en"),
    "README_ja.md": (FRONT, "ja"),
}
# What the front page shows, the worst and the best of each: titans-pytorch and this library.
FRONT_WHAT = {
    "same function: layer": {
        "en": "memory layer, theirs set to write at every token, as here",
        "ja": "メモリの層（titans-pytorch も、ここと同じくトークンごとに書き込む設定）",
    },
    "defaults": {
        "en": "memory layer, theirs by its defaults: one write a chunk",
        "ja": "メモリの層（titans-pytorch は既定の設定：書き込みはチャンクごとに1回）",
    },
    "model: training": {"en": "MAC model, a training step", "ja": "MAC のモデル、訓練の1ステップ"},
    "model: generation": {
        "en": "MAC model, generating a token, theirs with its cache",
        "ja": "MAC のモデル、1トークンの生成（titans-pytorch はキャッシュあり）",
    },
    "model: generation, compiled": {
        "en": "the same, ours compiled by `torch.compile`",
        "ja": "同上（このライブラリは `torch.compile` でコンパイル）",
    },
}

# Row name -> what the two sides are, [other side, ours]. Where a ratio should be small it is ours / other.
WHAT = {
    "same function: scan": {
        "en": "titans-pytorch per token / the same layer with this scan",
        "ja": "titans-pytorch（トークン単位）／同じ層で、スキャンだけこのライブラリ",
    },
    "same function: layer": {
        "en": "titans-pytorch per token / `NeuralMemory`",
        "ja": "titans-pytorch（トークン単位）／`NeuralMemory`",
    },
    "defaults": {
        "en": "titans-pytorch, its defaults / `NeuralMemory`",
        "ja": "titans-pytorch（既定の設定）／`NeuralMemory`",
    },
    "coarse": {
        "en": "titans-pytorch, one write a chunk / `NeuralMemory`",
        "ja": "titans-pytorch（チャンクごとに1回書き込み）／`NeuralMemory`",
    },
    "floor": {
        "en": "`chunked_scan` / its matrix products alone",
        "ja": "`chunked_scan`／その行列積だけ",
    },
    "floor, D12": {
        "en": "`chunked_scan` with `max_surprise` / its matrix products alone",
        "ja": "`chunked_scan`（`max_surprise` あり）／その行列積だけ",
    },
    "floor: layer": {
        "en": "`NeuralMemory` / its matrix products alone",
        "ja": "`NeuralMemory`／その行列積だけ",
    },
    "floor: model": {
        "en": "`TitansLM`, a training step / its matrix products alone",
        "ja": "`TitansLM` の訓練の1ステップ／その行列積だけ",
    },
    "closed form": {
        "en": "`recurrent_scan` / `chunked_scan`",
        "ja": "`recurrent_scan`／`chunked_scan`",
    },
    "length: forward": {
        "en": "reading, a token of many / a token of few",
        "ja": "読み取り（順伝播のみ）、長い系列の1トークン／短い系列の1トークン",
    },
    "length: training": {
        "en": "training, a token of many / a token of few",
        "ja": "訓練（順伝播と逆伝播）、長い系列の1トークン／短い系列の1トークン",
    },
    "length: generation": {
        "en": "generating a token after many / after few",
        "ja": "生成、長い文脈の後の1トークン／短い文脈の後の1トークン",
    },
    "length: memory": {
        "en": "peak memory, streaming many / few tokens",
        "ja": "最大メモリ、多くのトークンを順に読む／少しのトークンを順に読む",
    },
    "long call: scan": {
        "en": "`chunked_scan` without gradients, memory of one call beyond input and output / 100 MB",
        "ja": "`chunked_scan`（勾配なし）、1回の呼び出しで入出力のほかに使うメモリ／100 MB",
    },
    "long call: layer": {
        "en": "`NeuralMemory` without gradients, memory of one call beyond input and output / 100 MB",
        "ja": "`NeuralMemory`（勾配なし）、1回の呼び出しで入出力のほかに使うメモリ／100 MB",
    },
    "model: training": {
        "en": "`MemoryAsContextTransformer` / `TitansLM`, a training step",
        "ja": "`MemoryAsContextTransformer`／`TitansLM`、訓練の1ステップ",
    },
    "packed": {
        "en": "`TitansLM`, a training step of documents of random lengths, packed / as many tokens in equal rows",
        "ja": "`TitansLM` の訓練の1ステップ、長さの異なる文書を詰め込んだ行／同じトークン数の長さのそろった行",
    },
    "model: generation": {
        "en": "`MemoryAsContextTransformer` with its cache / `TitansLM`, generating a token",
        "ja": "`MemoryAsContextTransformer`（キャッシュあり）／`TitansLM`、1トークンの生成",
    },
    "model: generation, compiled": {
        "en": "`MemoryAsContextTransformer` with its cache / `torch.compile(TitansLM)`, generating a token",
        "ja": "`MemoryAsContextTransformer`（キャッシュあり）／`torch.compile(TitansLM)`、1トークンの生成",
    },
    "model: default generation": {
        "en": "`MemoryAsContextTransformer`, its default / `TitansLM`, generating a token",
        "ja": "`MemoryAsContextTransformer`（既定の設定）／`TitansLM`、1トークンの生成",
    },
    "model: users": {
        "en": "`TitansLM`, a token for users at different places / at one place",
        "ja": "`TitansLM`、別々の位置にいる利用者の1トークン／同じ位置にいる利用者の1トークン",
    },
    "model: length": {
        "en": "`TitansLM` reading, a token of many / a token of few",
        "ja": "`TitansLM` の読み取り、長い系列の1トークン／短い系列の1トークン",
    },
    "model: late generation": {
        "en": "`TitansLM` generating a token after many / after few",
        "ja": "`TitansLM` の生成、長い文脈の後の1トークン／短い文脈の後の1トークン",
    },
    "model: memory": {
        "en": "`TitansLM`, peak memory, streaming many / few tokens",
        "ja": "`TitansLM` の最大メモリ、多くのトークンを順に読む／少しのトークンを順に読む",
    },
}
HEADS = {
    "en": ["A / B", "batch × tokens, dim, chunk", "A", "B", "ratio", "kept", "target", "met"],
    "ja": ["A／B", "バッチ × トークン、dim、チャンク", "A", "B", "比", "保持", "目標", "達成"],
}
FRONT_HEADS = {
    "en": ["what is timed", HEADS["en"][1], "titans-pytorch", "this library", "times as fast", "… RAM kept"],
    "ja": [
        "時間を測ったもの",
        HEADS["ja"][1],
        "titans-pytorch",
        "このライブラリ",
        "速さ（倍）",
        "RAM 保持（倍）",
    ],
}
WORDS = {
    "en": {"yes": "yes", "no": "**no**", "memory": "out of memory"},
    "ja": {"yes": "○", "no": "**×**", "memory": "メモリ不足"},
}
NOTES = {
    "en": (
        "Seconds of forward and backward in float32 unless a row says otherwise, medians of {repeats} runs in turns; "
        "memories of depth 2, expansion 4. "
        "{cpu}, {cores} cores, {memory_gb} GB, {os}, Python {python}, PyTorch {torch}, {threads} threads, {date}. "
        "titans-pytorch is {theirs}; “per token” is its `chunk_size=1` and `batch_size=chunk`, without its extras, "
        "which computes the same function as this scan (relative difference {difference}). "
        "“out of memory”: it needs more than is left here. Much of titans-pytorch's time can go into RAM that is "
        "returned to the system and asked for again; “kept” is the ratio where the allocator keeps it (glibc's "
        "`MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_={trim}`)."
    ),
    "ja": (
        "特に断りのない行は、float32 での順伝播と逆伝播の時間です。"
        "両者を交互に{repeats}回ずつ測り、中央値をとりました。"
        "メモリの深さは2、拡大率は4です。"
        "{cpu}、{cores}コア、{memory_gb} GB、{os}、Python {python}、PyTorch {torch}、{threads}スレッド、{date}。"
        "titans-pytorch は {theirs} です。"
        "「トークン単位」は `chunk_size=1`、`batch_size=chunk` で追加機能を外した設定で、"
        "このライブラリのスキャンと同じ関数を計算します（相対差 {difference}）。"
        "「メモリ不足」は、この計算機の空きメモリでは足りなかったという意味です。"
        "titans-pytorch では、システムに返した RAM をもう一度確保することに、時間の多くがかかる場合があります。"
        "「保持」の列は、解放した RAM を手元に残す設定"
        "（glibc の `MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_={trim}`）で測った比です。"
    ),
}
FRONT_NOTES = {
    "en": (
        "Medians of {repeats} runs in turns in float32, forward and backward but for generation. "
        "{cpu}, {cores} cores, {threads} threads, PyTorch {torch}, titans-pytorch {theirs}, {date}. "
        "Last column: where RAM that is freed is kept, not given back to the system. "
        "In a model of dim {dim}, this library generates a token in {early} after {few:,} tokens and in {late} after "
        "{tokens:,}."
    ),
    "ja": (
        "float32 で、両者を交互に{repeats}回ずつ測った中央値です。生成のほかは、順伝播と逆伝播の時間です。"
        "{cpu}、{cores}コア、{threads}スレッド、PyTorch {torch}、titans-pytorch {theirs}、{date}。"
        "最後の列は、使い終わった RAM をシステムに返さず、手元に残す設定で測った比です。"
        "dim が{dim}のモデルで、このライブラリが1トークンを生成する時間は、"
        "{few:,}トークンの後で{early}、{tokens:,}トークンの後で{late}です。"
    ),
}
BUSY = {
    "en": " Rows marked ~ were disturbed by other programs.",
    "ja": "~ の付いた行は、ほかのプログラムの影響を受けています。",
}


def line(record: Record, language: str = "en", what: dict[str, dict[str, str]] = WHAT) -> list[str]:
    """The cells of one row, which `what` names."""
    words, sizes = WORDS[language], record["sizes"]
    tokens = f"{sizes['tokens']:,}" + (f" / {sizes['few']:,}" if "few" in sizes else "")
    first, second = ("other", "ours") if record["at_least"] else ("ours", "other")
    sign = "≥" if record["at_least"] else "≤"
    ratio, kept = (
        "–" if record.get(name) is None else f"{record[name]:.3g}×" for name in ("ratio", "ratio_freed_memory_kept")
    )
    return [
        what[record["name"]][language],
        f"{sizes['batch']} × {tokens}, {sizes['dim']}, {sizes['chunk']}",
        _amount(record, first, words),
        _amount(record, second, words),
        ratio + (" ~" if record["busy"] else ""),
        kept,
        f"{sign}{SPACE}{record['target']:g}×",
        {True: words["yes"], False: words["no"], None: "–"}[record["met"]],
    ]


def _amount(record: Record, side: str, words: dict[str, str]) -> str:
    value = record[side]
    if value is None:
        return words["memory"]
    if record.get("unit"):
        return f"{value:.0f}{SPACE}{record['unit']}"
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g}{SPACE}{unit}"
    return f"{value * 1e6:.3g}{SPACE}µs"


def section(results: dict[str, Any], start: str, language: str) -> str:
    """What stands between the markers of a page: all rows, or those of the front page without their targets."""
    records, columns, heads, what, notes = results["rows"], 8, HEADS, WHAT, NOTES
    if start == FRONT:
        records, columns, heads, what, notes = list(extremes(records)), 6, FRONT_HEADS, FRONT_WHAT, FRONT_NOTES
    rows = [heads[language], ["---", "---", "--:", "--:", "--:", "--:", "--:", "---"]]
    rows += [line(record, language, what) for record in records]
    note = notes[language].format(**_facts(results, WORDS[language]))
    note += BUSY[language] if any(record["busy"] for record in records) else ""
    return "\n".join(["| " + " | ".join(cells[:columns]) + " |" for cells in rows] + ["", note])


def _facts(results: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    """What the notes tell."""
    found = [max(r["relative_difference"].values()) for r in results["rows"] if r.get("relative_difference")]
    long = next(record for record in results["rows"] if record["name"] == "model: late generation")
    return {
        **results["machine"],
        **long["sizes"],
        "early": _amount(long, "other", words),
        "late": _amount(long, "ours", words),
        "trim": KEEP_FREED["MALLOC_TRIM_THRESHOLD_"],
        "repeats": results["repeats"],
        "theirs": results["titans_pytorch"] or "–",
        "difference": f"{max(found):.0e}" if found else "–",
    }


def extremes(records: list[Record]) -> Iterator[Record]:
    """The worst and the best row of each comparison of the front page."""
    for name in FRONT_WHAT:
        found = [record for record in records if record["name"] == name and record["ratio"] is not None]
        found.sort(key=lambda record: record["ratio"], reverse=not found[0]["at_least"])
        yield from (found[0], found[-1]) if len(found) > 1 else found


def replace_section(page: str, start: str, text: str) -> str:
    """The page with `text` between its markers. Raises ValueError if it does not have both."""
    before, found, rest = page.partition(start)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise ValueError(f"the page must have the markers {start} and {END}")
    return f"{before}{found}\n{text}\n{end}{after}"
