"""What the site says in each language beside what it is made of."""

from __future__ import annotations

LANGUAGES = ("en", "ja")
OTHER = {"en": "ja", "ja": "en"}

SAY = {
    "en": {
        "title": "Titans, step by step",
        "language": "日本語",
        "tools": "This page",
        "colab": "Open in Colab",
        "download": "Download the notebook",
        "single": "Download as one file",
        "prompt show": "Show the result",
        "prompt hide": "Hide the result",
        "live": "These are a few states of a live picture. It moves in JupyterLab, Colab or VS Code.",
        "course": "The course",
        "look up": "To look up",
        "project": "The library",
        "minutes": "{} min.",
        "glossary": "Glossary",
        "glossary head": "| English | Japanese | first in |\n|---|---|---|",
        "glossary intro": "The course's words, and how each is said in Japanese.",
        "equations": "Equations",
        "equations intro": "The paper's equations, numbered as in its first version: what each says, the function that "
        "is it, the test that proves it, and the lesson that explains it. Where the print is wrong, it is mended here: "
        "[misprints]({}).",
        "equation": "Equation {}",
        "code": "Code: ",
        "proof": "Proof: ",
        "lesson": "Lesson: ",
        "end": ".",
        "reference": "Reference",
        "reference intro": "Every public class and function of the library, with what its docstring says. What most "
        "people need can be imported from `titans` itself:",
        "module": "| module | what it holds |\n|---|---|",
    },
    "ja": {
        "title": "Titans を一歩ずつ",
        "language": "English",
        "tools": "このページ",
        "colab": "Colab で開く",
        "download": "ノートブックをダウンロード",
        "single": "1つのファイルでダウンロード",
        "prompt show": "結果を見る",
        "prompt hide": "結果を隠す",
        "live": "動かせる図の、いくつかの状態です。JupyterLab、Colab、VS Code では実際に動かせます。",
        "course": "レッスン",
        "look up": "調べる",
        "project": "ライブラリ",
        "minutes": "{}分",
        "glossary": "用語集",
        "glossary head": "| 日本語 | 英語 | 初出 | 注 |\n|---|---|---|---|",
        "glossary intro": "この教材で使う用語と、それに当たる英語です。",
        "equations": "数式",
        "equations intro": "論文の数式を、第1版の番号で並べました。それぞれについて、何を表すか、どの関数に当たるか、"
        "どのテストで証明しているか、どのレッスンで説明しているかを示します。印刷の誤りは直してあります"
        "（[論文の誤植]({})）。",
        "equation": "式({})",
        "code": "コード：",
        "proof": "証明：",
        "lesson": "レッスン：",
        "end": "。",
        "reference": "リファレンス",
        "reference intro": "ライブラリの公開クラスと公開関数を、docstring とともに並べました（docstring は英語です）。"
        "よく使うものは `titans` から直接 import できます。",
        "module": "| モジュール | 内容 |\n|---|---|",
    },
}  # fmt: skip

# What each equation of titans/equations.py is, and what it says in Japanese.
EQUATIONS = {
    "8": (
        r"M_t = M_{t-1} - \theta_t\, \nabla\ell(M_{t-1}; x_t)",
        "書き込みは、驚きを減らす方向への勾配の1ステップです",
    ),
    "9-10": (
        r"M_t = M_{t-1} + S_t, \qquad S_t = \eta_t S_{t-1} - \theta_t\, \nabla\ell(M_{t-1}; x_t)",
        "過去の驚きは、モーメンタムが引き継ぎます",
    ),
    "11": (r"k_t = x_t W_K, \qquad v_t = x_t W_V", "キーと値は、トークンの射影です"),
    "12": (
        r"\ell(M_{t-1}; x_t) = \lVert M_{t-1}(k_t) - v_t \rVert^2",
        "連想損失と、その勾配を因子に分けたものです",
    ),
    "13-14": (
        r"M_t = (1 - \alpha_t)\, M_{t-1} + S_t, \qquad S_t = \eta_t S_{t-1} - \theta_t\, \nabla\ell(M_{t-1}; x_t)",
        "メモリは、驚きを足す前に忘却します",
    ),
    "15": (r"y_t = M_t(q_t), \qquad q_t = x_t W_Q", "読み出しは順伝播です"),
    "16": (
        r"M_t = \beta_t M_0 - \sum_{i \le t} \theta_i \frac{\beta_t}{\beta_i}\, \nabla\ell(M_{t'}; x_i), "
        r"\qquad \beta_t = \prod_{j \le t} (1 - \alpha_j)",
        "モーメンタムのないチャンクの、閉じた形です",
    ),
    "17": (
        r"E = 2\,(K W^\top - V), \qquad Y = \beta \odot (Q W^\top) - (G \odot Q K^\top)\, E",
        "線形の場合は、行列の積になります",
    ),
    "18": (r"S_t = \eta_t S_{t-1} - \theta_t u_t", "チャンクの中のモーメンタムは、線形の漸化式です"),
    "19": (
        r"x_{\mathrm{new}} = [\, p_1 \; p_2 \; \dots \; p_{N_p} \,] \,\Vert\, x",
        "永続トークンは、ほかのすべてのトークンより前に置かれます",
    ),
    "20": (
        r"\mathrm{FFN}(x) = W_V\, \mathrm{Softmax}(W_K\, x)",
        "永続トークンへのアテンションは、順伝播型ネットワークです",
    ),
    "21-25": (
        r"h_t = M^*_{t-1}(q_t), \qquad \tilde S^{(t)} = [\,P \,\Vert\, h_t \,\Vert\, S^{(t)}\,], \qquad "
        r"y_t = \mathrm{Attn}(\tilde S^{(t)}), \qquad M_t = M_{t-1}(y_t), \qquad o_t = y_t \otimes M^*_t(y_t)",
        "MAC：メモリから読み出したものを各セグメントのコンテキストに加え、アテンションの出力をメモリに書き込みます",
    ),
    "26-28": (
        r"\tilde x = [\,P \,\Vert\, x\,], \qquad y = \mathrm{SW\text{-}Attn}^*(\tilde x), \qquad "
        r"o = y \otimes M(\tilde x)",
        "MAG：スライディングウィンドウが、メモリのゲートになります",
    ),
    "29-31": (
        r"\tilde x = [\,P \,\Vert\, x\,], \qquad y = M(\tilde x), \qquad o = \mathrm{SW\text{-}Attn}(y)",
        "MAL：スライディングウィンドウが、メモリの答えを見ます",
    ),
}

# How many pages the search found: what Sphinx has no Japanese for.
FOUND = '"Search finished, found one page matching the search query.": ["${resultCount} ページが見つかりました。"]'

# What the theme says in English whatever the language, as it stands in its pages.
THEME_JA = {
    "Toggle site navigation sidebar": "サイトの目次を開閉する",
    "Toggle table of contents sidebar": "このページの目次を開閉する",
    "Toggle Light / Dark / Auto color theme": "明るい・暗い・自動の配色を切り替える",
    ">Skip to content<": ">本文へ移動<",
    ">Back to top<": ">先頭に戻る<",
    "<span>Next</span>": "<span>次</span>",
    "<span>Previous</span>": "<span>前</span>",
    ">Home<": ">ホーム<",
    "Link to this heading": "この見出しへのリンク",
    "Link to this definition": "この定義へのリンク",
    "Toggle hidden content": "隠れている内容を開閉する",
    "On this page": "このページの内容",
    "Auto light/dark, in light mode": "自動の配色（いまは明るい）",
    "Auto light/dark, in dark mode": "自動の配色（いまは暗い）",
    ">Light mode<": ">明るい配色<",
    ">Dark mode<": ">暗い配色<",
    ">Menu<": ">目次<",
    ">Expand<": ">開く<",
    "Toggle navigation of": "目次を開閉する：",
}
