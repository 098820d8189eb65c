# %% [markdown] lang="en"
# # 10 · A language model
#
# *Titans, step by step.* About 45 minutes to read, 80 with the exercises; the code runs in about a minute.
# Run the cells from top to bottom.
#
# **You will learn**
#
# - to measure a language model in bits per byte, and by place in a document;
# - to train a memory on real text so that it lasts: with the state carried from piece to piece;
# - who wins where: a memory, no memory, and a window of equal cost, at equal steps and at equal time;
# - what the memory of a language model holds, and for how long, by taking things away from it;
# - to read surprise over text, to generate from a state, and to use the model through Hugging Face.
#
# **You need** lesson 07 (MAC) and lesson 09 (the state).

# %% [markdown] lang="ja" en="c4cb77aa"
# # 10 · 言語モデル
#
# 「Titans, step by step」（一歩ずつ学ぶ Titans）のレッスン10です。読むのに約45分、演習も解くと約80分、コードの実行に約1分かかります。
# セルは上から順に実行してください。
#
# **このレッスンで学ぶこと**
#
# - 言語モデル（language model）の性能を、1バイト当たりのビット数で、文書の中の位置ごとに測る方法。
# - 状態（state）を区間から区間へ引き継ぎながら本物のテキストで訓練し、長く使い続けられるメモリ（memory）を作る方法。
# - メモリのあるモデル、メモリのないモデル、計算量が同じウィンドウ（window）のモデルのうち、どこでどれが勝つか。
#   同じステップ数で訓練した場合と、同じ時間で訓練した場合を比べます。
# - 言語モデルのメモリに何が入っていて、どれだけの間残るか。いろいろなものを取り除いて調べます。
# - テキストを読むときの驚き（surprise）を調べ、状態からテキストを生成し、Hugging Face を通してモデルを使う方法。
#
# **必要な知識**：レッスン07（MAC）とレッスン09（状態）。

# %%
from dataclasses import replace

import torch

from titans import TitansLM
from titans.checkpoints import load_checkpoint
from titans.corpus import Text
from titans.lesson import predict, progress, start
from titans.lesson.kit import cards, interventions
from titans.lesson.lesson_10 import (
    exercises,
    pictures,
    reading,
    texts,
    trials,
)
from titans.lesson.lesson_10.lab import text_lab
from titans.recipes import RECIPES
from titans.training import parameter_groups, train

start()

# %% [markdown] lang="en"
# If the import fails, this course's package is not installed: run `pip install -e .` in the folder that you cloned
# (in Colab: clone the repository, go into its folder with `%cd`, install it there in the same way, then run the cell
# above). The package that PyPI calls `titans` is another one.
#
# ## 1. A text that everybody has
#
# So far we made up what was read: pairs, noise, needles. A language model reads text. Which text is on your machine already, is long,
# and may be read by anybody? The source of Python's own standard library. It is some millions of bytes, and it is full of what a
# memory should be good for: names that come back.
#
# We read it byte by byte. There are 256 tokens, and no tokeniser. One file in eight is *held out*: no model of this lesson has been
# trained on it. Which files they are is decided by a checksum of their names, so it is the same in every version of Python.

# %% [markdown] lang="ja" en="0ccd2ed9"
# import に失敗するときは、この教材のパッケージがまだインストールされていないので、
# クローンしたフォルダーで `pip install -e .` を実行してください。
# Colab では、リポジトリをクローンし、`%cd` でそのフォルダーに入り、同じようにインストールしてから、上のセルを実行します。
# なお、PyPI で `titans` という名前のパッケージは別物です。
#
# ## 1. 誰もが持っているテキスト
#
# ここまでモデルに読ませたのは、ペア（pair）や雑音（noise）や針など、作りものばかりでした。言語モデルが読むのはテキストです。
# では、すでに手元にあって、長く、誰が読んでもよいテキストといえば何でしょうか。Python の標準ライブラリのソースコードです。
# 数百万バイトあり、同じ名前が何度も出てくるので、メモリが役に立ちそうなところがたくさんあります。
#
# これを1バイトずつ読みます。トークン（token）は256種類で、トークナイザーは使いません。
# ファイルの8つに1つは**取り置き**（held out）とし、このレッスンのどのモデルの訓練にも使っていません。
# どのファイルを取り置くかは、名前のチェックサムで決めるので、Python のバージョンが違っても変わりません。
#
# 次の出力の train は訓練に使うファイル、held out は取り置いたファイルで、それぞれの個数（files）と合計のバイト数（bytes）です。
# その後は、取り置いたファイルの1つの冒頭です。

# %% tags=["nbval-ignore-output"]
text = Text()
for part in ("train", "held out"):
    files = text.part(part)
    size = sum(len(file) for file in files.values())
    print(f"{part}: {len(files)} files, {size:,} bytes")
page = text.part("held out")["heapq.py"]
print(bytes(page[:300].tolist()).decode())

# %% [markdown] lang="en"
# A model gives every next byte a chance $p$. What the byte costs is $-\log_2 p$ **bits**: 0 where the model was sure and right, 1 where it
# was right to take even odds, 8 where it knew nothing of 256 bytes. The mean over a text is *bits per byte*, the cross-entropy of
# every training loop in other units. It is also a size: a good compressor could store the text in so many bits.
#
# **Predict before you run.** Without any network: how many bits does a byte cost if you know how often each byte occurs? If you know the byte
# before it, too? And how good is `zlib`, which is made for this?

# %% [markdown] lang="ja" en="45d6c487"
# モデルは、次に来うるバイトのそれぞれに確率 $p$ を与えます。実際に来たバイトの**コスト**は、$-\log_2 p$ **ビット**です。
# 確信していて当たれば0、五分五分と見ていたのが妥当なら1、256通りのどれが来るかまったくわからなければ8になります。
# テキスト全体での平均が**1バイト当たりのビット数**（bits per byte）で、訓練ループでいつも使う交差エントロピーの単位を変えたものです。
# これは大きさも表します。よい圧縮プログラムなら、テキストをそのビット数で保存できるからです。
#
# **実行する前に予想してみましょう。**
# ネットワークを使わずに、それぞれのバイトの頻度だけを知っているとき、1バイトのコストは何ビットでしょうか。
# 直前のバイトも知っていれば、どうでしょうか。また、まさにこのために作られた `zlib` では、どうなるでしょうか。
#
# 出力の各行は、上から順に、256通りの確率がすべて等しいとき（all alike）、各バイトの頻度を使うとき（how often each byte occurs）、
# 直前のバイトも使うとき（after the byte before it）で、最後の2行は圧縮プログラムです。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
files = trials.held_out(8192)
simple = trials.counted(files)
for name, cost in simple.items():
    print(f"{name:26} {cost:.2f} bits")
alone, after, *packed = list(simple.values())[1:]
assert max(packed) < after < alone < 8

# %% [markdown] lang="en"
# `zlib` and `xz` know nothing of Python when they begin: all that they gain beyond how often each byte occurs, they gain from what came
# back. That is
# a memory at work, and one that keeps everything. These are the numbers to beat.

# %% [markdown] lang="ja" en="b2ecd93e"
# `zlib` と `xz` は、始めるときには Python について何も知らないので、節約できるのは、前に出たものがまた出てくるときだけです。
# つまり、これもメモリの働きで、しかも、すべてを残しておくメモリです。この数字が、これから越えるべき目標になります。

# %% [markdown] lang="en"
# ### Exercise 1: bits
#
# A byte that got the chance $p$ costs $-\log_2 p$ bits: 0 where the model was certain of it, 8 where it found all 256
# bytes equally likely. `logits[t]` is what the model says once it has read byte `t`: it predicts byte `t + 1`. Return
# what each byte costs, but for the first, which nothing predicts. (The chances are the softmax of the logits.)

# %% [markdown] lang="ja" en="cdcc9739"
# ### 演習1：ビット
#
# 確率 $p$ を与えられたバイトのコストは $-\log_2 p$ ビットです。モデルが確信していれば0、256通りのバイトがどれも同じくらい
# ありそうだと見ていれば8になります。`logits[t]` は、モデルがバイト `t` まで読んだところで出すもので、バイト `t + 1` の予測です。
# 最初のバイトには予測がないので、それを除いた各バイトのコストを返してください（確率は、ロジットの softmax です）。


# %%
def bits(logits, tokens):
    return ...  # [tokens - 1], from logits [tokens, 256]


exercises.BITS.check(bits)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# Bring the two to the same length first: the last logits predict a byte that is not there, and the first byte has no
# logits. `log_softmax(-1)` gives natural logarithms, and does not overflow where `exp` would.
#
# </details>

# %% [markdown] lang="ja" en="fbe44bca"
# <details><summary>ヒント</summary>
#
# まず、2つの長さをそろえます。最後のロジットが予測するバイトはここにはなく、最初のバイトを予測するロジットもないからです。
# `log_softmax(-1)` は自然対数を返し、`exp` ならオーバーフローするところでも計算できます。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def bits(logits, tokens):
#     logarithms = logits[:-1].log_softmax(-1) / math.log(2)
#     return -logarithms.gather(1, tokens[1:, None])[:, 0]
# ```
#
# </details>

# %% [markdown] lang="en"
# ## 2. Trained to last
#
# The model is small: a MAC with two layers of 128 features, segments of 64 bytes, and a memory in the second layer, one matrix. How do you train
# it? A file of 16,384 bytes is too long to go back through. So it is read in pieces of 512, and the state is **carried** from
# piece to piece, and **detached**: the numbers go on, the gradient stops.
#
# By hand, on two rows and pieces of 64 bytes, four in a row:

# %% [markdown] lang="ja" en="f4c09447"
# ## 2. 長く使えるように訓練する
#
# ここで使うのは小さな MAC です。128次元の層（layer）が2つで、セグメント（segment）は64バイト、メモリは2層目だけにあり、行列1つです。
# これをどう訓練すればよいでしょうか。16,384バイトのファイルは、端から端まで逆伝播するには長すぎます。
# そこで、512バイトずつの区間に分けて読み、状態を区間から区間へ**引き継ぎ**ながら、**切り離します**（detach）。
# 数値は引き継がれますが、勾配（gradient）はそこで止まります。
#
# バッチを2行とし、64バイトの区間を4つ続けて、この訓練を手で書いてみましょう
# （出力の to the last bit は、ライブラリの訓練と最後の1ビットまで一致したという意味です）。

# %%
run = RECIPES["text"].runs["mac"]
small = replace(run, rows=2, between=(64, 64), pieces=(4,), steps=4)
torch.manual_seed(0)
model, state = TitansLM(small.config), None
optimizer = torch.optim.AdamW(parameter_groups(model))
for step in range(small.steps):
    for group in optimizer.param_groups:
        group["lr"] = small.rate(step)
    batch = small.batch(0, step)
    output = model(batch.tokens, state, labels=batch.labels)
    optimizer.zero_grad(set_to_none=False)
    output.loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), small.clip)
    optimizer.step()
    state = output.state.detach()

# %%
library = train(small, seed=0, progress=False).model
pairs = zip(model.parameters(), library.parameters(), strict=True)
assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
print("the library's training, to the last bit")

# %% [markdown] lang="en"
# The recipe `text` does this with eight rows for 1,600 steps, some minutes on a laptop. Every row reads stretches of its own, of 1, 2, 4, 8 or
# 16 pieces, so that every step has beginnings in it, and places far inside.
#
# Why carry the state? Try what happens without. The recipe has the same model trained on single pieces of 512 bytes, as many steps. And
# beside them, without a memory:
#
# - *attention* in segments of 64, for as many steps, and *as long*: for as much time, 2.1 times as many steps;
# - a *window of 512*: each byte sees the 512 before it. A step of it takes as long as a step of MAC.
#
# **Predict before you run.** The table shows bits per byte in held-out files: of the first 64 bytes, of those up to 256, and so on. Three seeds
# each: the median, and the worst in brackets. Who wins at the start of a file, who at its end? And what becomes of the MAC that never saw
# more than 512 bytes?

# %% [markdown] lang="ja" en="b94a6c0c"
# レシピ `text` は、同じことを8行、1,600ステップで行い、ノートパソコンなら数分で終わります。
# 行ごとに、別のところから1、2、4、8、16区間のいずれかを続けて読むので、どのステップにも、ファイルの始まりと、ずっと奥の場所の両方が含まれます。
#
# なぜ状態を引き継ぐのでしょうか。引き継がないとどうなるかを試してみましょう。
# レシピには、同じモデルを512バイトの区間1つずつで、同じステップ数だけ訓練したもの（single pieces）もあります。
# これと、次のメモリのないモデルを比べます。
#
# - 64バイトのセグメントの**アテンション**（attention）。ステップ数が同じものと、**時間**が同じもの（as long、2.1倍のステップ数）。
# - **512のウィンドウ**（window of 512）。どのバイトからも、その前の512バイトが見えます。1ステップにかかる時間は、MAC と同じです。
#
# **実行する前に予想してみましょう。**
# 次の表は、取り置いたファイルの1バイト当たりのビット数で、列は最初の64バイト、そこから256バイトまで、というように分けてあります。
# シードは3つで、中央値と、括弧の中に最も悪い値を示します。
# ファイルの始まりではどれが勝ち、終わりではどれが勝つでしょうか。
# また、512バイトより長いものを一度も見ていない MAC は、どうなるでしょうか。

# %%
predict("...")

# %%
card = cards.card("text")
print(trials.table(card))

# %%
pictures.by_place(card)

# %% [markdown] lang="en"
# (The 256 to 1,024 bytes behind a file's head are the dearest for all: compare columns, not rows.)
#
# - *At the start* MAC loses: its stretches are long, so it sees few beginnings. The MAC on single pieces, which sees more, does not lose.
# - *At equal steps* MAC wins from the first thousand bytes on, by about a tenth of a bit.
# - *At equal time* attention has caught up: it wins the start, and there is next to nothing between them at the end.
# - *The window* sees more than any of them and is behind attention in segments everywhere: 1,600 steps did not teach it to use what it sees.
#
# And the MAC that never saw more than 512 bytes falls apart: at the end of a file it costs about as much as counting pairs of bytes.
# **A memory must be trained to last.**
#
# If it is the *carried state* that breaks it, the cure is simple: let the state begin anew every 512 bytes, and the model is as it was in training.
#
# **Predict before you run.** Both MACs, with a state that begins anew every 512 bytes: who wins now, and how much does the other lose
# of what it had carried so far?

# %% [markdown] lang="ja" en="26f21642"
# （ファイルの先頭に続く256〜1,024バイトのところは、どのモデルでもコストが最も高くなります。同じ列の中で比べてください。）
#
# - **始まり**では、MAC が負けます。長く続けて読む分、始まりを見る回数が少ないからです。始まりを見ることの多い、1区間ずつの MAC は負けません。
# - **同じステップ数**なら、最初の1,000バイトのあたりから先で MAC が勝ち、差は約0.1ビットです。
# - **同じ時間**なら、アテンションが追いつきます。始まりではアテンションが勝ち、終わりではほとんど差がありません。
# - **ウィンドウ**は、見える範囲がいちばん広いのに、どこでも、セグメントのアテンションに及びません。
#   見えるものの使い方が、1,600ステップでは身につかなかったのです。
#
# そして、512バイトより長いものを一度も見ていない MAC は、崩れてしまいます。
# ファイルの終わりでは、コストが、2バイトのペアの頻度を数えただけの場合とあまり変わりません。
# **長く使えるメモリにするには、長く使う訓練が要るのです。**
#
# 崩れる原因が**引き継いだ状態**なら、直し方は簡単です。512バイトごとに状態をリセットして初期状態に戻せば、モデルは訓練のときと同じ条件で働きます。
#
# **実行する前に予想してみましょう。**
# 2つの MAC のどちらについても、512バイトごとに状態をリセットします。今度はどちらが勝つでしょうか。
# また、ここまで状態を引き継いできたほうは、それでどれだけ悪くなるでしょうか。

# %%
predict("...")

# %%
print(trials.table(card, "anew"))

# %% [markdown] lang="en"
# It was the carried state. Begun anew, the MAC of single pieces is the best of all from byte 64 on, at equal steps and at equal time. And the other, trained to
# last, loses two hundredths of a bit.
#
# So two things are true. A memory that is to last must be trained to last. And on this text hardly anything came of it: what
# it had carried through 16,000 bytes was worth next to nothing, and learning to carry it cost more. Why? The next sections look inside.

# %% [markdown] lang="ja" en="3c5b280b"
# 原因は、引き継いだ状態でした。512バイトごとにリセットすると、1区間ずつ訓練した MAC が、64バイトより後のどこでも、
# ステップ数が同じでも時間が同じでも、いちばんよくなります。
# 一方、長く使えるように訓練したほうは、100分の2ビットほど悪くなるだけです。
#
# つまり、2つのことが言えます。長く使えるメモリにするには、そのための訓練が要ります。しかし、このテキストでは、それで得たものはほとんどありませんでした。
# 16,000バイトにわたって引き継いできたものはほとんど役に立たず、引き継ぎ方を学ぶためのコストのほうが大きかったのです。
# それはなぜでしょうか。次の節から、メモリの中を調べます。

# %%
ends = ("64", "1024", "4096", "16384")
mean = {
    run: [found["bits"][end]["median"] for end in ends]
    for run, found in card["runs"].items()
}
mac, single, plain, longer, window = mean.values()
anew = {
    run: card["runs"][run]["anew"]["16384"]["median"]
    for run in ("mac", "mac, single pieces")
}
assert mac[0] > max(single[0], plain[0], longer[0])
assert all(m < p - 0.04 for m, p in zip(mac[1:], plain[1:], strict=True))
assert abs(mac[3] - longer[3]) < 0.06

# %%
assert all(w > p for w, p in zip(window, plain, strict=True))
assert single[3] > mac[3] + 0.7
assert anew["mac, single pieces"] < min(mac[3], longer[3])
assert 0 < anew["mac"] - mac[3] < 0.05

# %% [markdown] lang="en"
# ## 3. What the memory brings
#
# Take the trained MAC, and take its memory away at a border of segments, where attention sees nothing of what was before. There are some
# hundred such borders in the held-out files; before each, 512 bytes were read. Behind it the model goes on with its memory *as it is*;
# with one *begun anew*; with the memory of *another file*; and a copy of the model reads all with a memory that is *never written*.
#
# **Predict before you run.** Which of the four costs most? And how long does it take a memory that begins anew to catch up: 64 bytes,
# 512, or never?

# %% [markdown] lang="ja" en="ec7fe2c7"
# ## 3. メモリの効果
#
# 訓練した MAC のメモリを、セグメントの境目で取り除きます。境目では、アテンションからは、前のものが何も見えません。
# 取り置いたファイルには、そのような境目が百ほどあり、どの境目でも、その前に512バイトを読ませておきます。
# 境目の後は、メモリを**そのまま**使う場合（as it is）、**リセット**する場合（begun anew）、**別のファイル**のメモリに替える場合（another file's）の
# 3通りで続けます。
# もう1つ、メモリに**一度も書き込まない**（never written）モデルのコピーにも、すべてを読ませます。
#
# **実行する前に予想してみましょう。**
# 4つのうち、コストが最も高いのはどれでしょうか。
# また、リセットしたメモリは、64バイトで追いつくでしょうか。512バイトかかるでしょうか。それとも、ずっと追いつかないでしょうか
# （出力の bits a byte は、1バイト当たりのビット数です）。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
model, _, _ = load_checkpoint("text/mac")
cases = trials.memory_cases(model, files)
for name, costs in cases.items():
    print(f"{name:16} {costs.mean():.2f} bits a byte")

# %%
pictures.after_a_border(cases)

# %% [markdown] lang="en"
# Never written costs most, a third of a bit on every byte. But beware of that number: the model was *trained* with a memory and
# leans on it. The one that was trained without, *attention* in the table above, costs only about a tenth more than MAC. Leaving out
# after training and before it are two questions (lesson 08).
#
# The other two curves are the surprise. A new memory costs a fifth of a bit in the first segment, little in the next, and nothing after
# two hundred bytes or so. Another file's costs more than none at first: what it holds misleads. So there *is* something in the memory that
# belongs to this file. But it is not what was read a thousand bytes ago.
#
# How far back does it reach? Read only so many bytes before the border, and look at the 64 behind it.
#
# **Predict before you run.** With 2,048 bytes read before, how much better than with 64?

# %% [markdown] lang="ja" en="d1861f4a"
# コストが最も高いのは一度も書き込まない場合で、どのバイトでも3分の1ビットほど増えます。ただし、この数字には注意が必要です。
# このモデルはメモリのある状態で**訓練**されていて、メモリに頼っているからです。メモリなしで訓練したモデル（上の表のアテンション）のコストは、
# MAC より0.1ビットほど高いだけです。訓練した後で外すことと、初めから外して訓練することは、別の問いなのです（レッスン08）。
#
# 驚くのは、ほかの2本の線です。リセットしたメモリでは、コストが最初のセグメントで5分の1ビットほど増えますが、
# 次のセグメントでは少ししか増えず、200バイトほどから後は、まったく増えません。
# 別のファイルのメモリは、はじめのうち、リセットするよりも悪くなります。入っているものが、予測を誤らせるからです。
# ですから、メモリには、たしかにこのファイルのものが入っています。しかし、それは1,000バイト前に読んだものではありません。
#
# では、どこまで前のものが入っているのでしょうか。境目の前に読むバイト数を変えて、境目の後の64バイトを調べます。
# 出力の各行は、前に読んだバイト数（bytes）、そのときのコスト（bits）、
# そして、境目の後の名前のうち、前に読んだ部分にもあるものの割合（of names）です。
#
# **実行する前に予想してみましょう。** 境目の前に2,048バイトを読むと、64バイトだけの場合より、どれだけよくなるでしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
lengths = (0, 64, 128, 256, 512, 1024, 2048)
reach = trials.span(model, files, lengths)
known = trials.names_read_before(files, lengths)
for length, cost in reach.items():
    share = known[length]
    print(f"{length:5} bytes: {cost:.2f} bits; {share:.0%} of names")

# %% [markdown] lang="en"
# Four fifths of the gain come from the 64 bytes just before the border, and from 512 on there is none. It is not that there is nothing more to
# find: the last column is the share of names (of four letters or more) in those 64 bytes that stand in what was read, and it grows and
# grows.
#
# So on this text, in this model, the "long-term memory" is a bridge over the border of a segment. Facts in lessons 00, 07 and 09 lasted for
# ten thousands of bytes. Why not here? The first suspect is the forgetting gate. If it were the reason, a memory that forgets nothing
# must reach further.
#
# **Predict before you run.** $\alpha = 0$, all else as it is: what will 2,048 bytes cost?

# %% [markdown] lang="ja" en="2bbb9e47"
# 何も読まない場合と比べて節約できたコストの5分の4は、境目の直前の64バイトによるもので、512バイトから先では、節約はもう増えません。
# もっと前に役立つものがないわけではありません。
# 右端の列は、その64バイトに現れる名前（4文字以上）のうち、前に読んだ部分にもあるものの割合で、これは増え続けています。
#
# つまり、このテキストとこのモデルでは、「長期メモリ」は、セグメントの境目を越えるための橋なのです。
# レッスン00、07、09の事実は、何万バイトもの間、残っていました。ここでは、なぜ残らないのでしょうか。
# まず疑わしいのは、忘却（forgetting）のゲート（gate）です。それが理由なら、何も忘れないメモリには、もっと前のものまで残っているはずです。
#
# **実行する前に予想してみましょう。**
# ほかはそのままで $\alpha = 0$ とし、2,048バイトを読むと、コストはどうなるでしょうか（出力の nothing forgotten は「何も忘れない」という意味です）。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
with interventions.held(model, alpha=0.0):
    kept = trials.span(model, files, (64, 256, 2048))
for length, cost in kept.items():
    print(f"{length:5} bytes: {cost:.2f} bits, nothing forgotten")
assert reach[0] - reach[64] > 0.6 * (reach[0] - reach[2048])
assert kept[2048] > kept[64] > reach[2048]

# %% [markdown] lang="en"
# It gets worse, and the worse the more was read. What is old is not useful and kept back by the gate; it is in the way, and the gate clears it off.
# This explanation falls.
#
# Nor is it that training could not see that far: gradients went back 512 bytes, and the reach ends before that. What is left is what
# distinguishes text from the tasks of the other lessons: there a few pairs were written and noise was let pass. Here *every* byte is a pair
# to be written, and a matrix of 128 features is asked to hold hundreds. Whether a larger or deeper memory reaches further, or a
# longer training, we have not measured; `titans.recipes` is there to try it.

# %% [markdown] lang="ja" en="6a677665"
# かえって悪くなり、多く読むほどさらに悪くなります。古いものは、役に立つのにゲートに抑えられているのではなく、
# 邪魔になるので、ゲートに片づけられているのです。この説明は成り立ちません。
#
# 訓練でそこまで前が見えなかったから、というわけでもありません。勾配は512バイト前まで戻りますが、メモリの届く範囲は、その手前で終わっています。
# 残るのは、ほかのレッスンの課題とテキストの違いです。ほかの課題では、書き込むのはいくつかのペアだけで、雑音は書き込まずに済みました。
# ここでは、**どの**バイトも書き込むべきペアなので、128次元の行列1つに、何百ものペアを入れることになります。
# もっと大きなメモリや深いメモリ、あるいはもっと長い訓練で、さらに前まで届くようになるかどうかは、測っていません。`titans.recipes` で試すことができます。

# %% [markdown] lang="en"
# ## 4. What is in it
#
# Now take apart what is read before the border, 512 bytes of it, and leave it as long as it was: its *lines shuffled*; every *name renamed*, to
# a name of the same length from another file, the same one wherever it stands; *another file* altogether.
#
# **Predict before you run.** If the memory has learned the names of this file, which of them costs most of the gain? If it holds where in
# a line, a list, an indented block we are?

# %% [markdown] lang="ja" en="65fbf444"
# ## 4. 何が入っているか
#
# 今度は、境目の前に読む512バイトに、長さを保ったまま手を加えます。**行の順序を入れ替える**（lines shuffled）、
# **名前を付け替える**（names renamed。別のファイルにある同じ長さの名前にし、同じ名前は、どこでも同じものに替えます）、
# 全体を**別のファイル**にする（another file）の3通りで、比べるのは、そのままの場合（as they are）です。
# 出力の of the gain は、そのままの場合に節約できるコストのうち、手を加えても残る割合です。
#
# **実行する前に予想してみましょう。**
# メモリがこのファイルの名前を覚えたのなら、節約が最も減るのはどれでしょうか。
# いまいるのが行やリストや字下げしたブロックのどこなのか、ということが入っているのなら、どれでしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
changed = trials.by_content(model, files, kept=0)
gain = reach[0] - changed["as they are"]
for name, cost in changed.items():
    share = (reach[0] - cost) / gain
    print(f"{name:15} {cost:.2f} bits, {share:5.0%} of the gain")

# %% [markdown] lang="en"
# Shuffled lines cost half of the gain, and so do other names. A nice story is at hand: half of the memory is names, half is order. Before you
# believe it, ask what else was changed. The *last* line before the border was moved away, too, and the word that the border cuts in two got
# another beginning.
#
# So do it once more, and leave the last 64 bytes as they are.
#
# **Predict before you run.** If the story is right, each of the two still costs about half. What do you expect?

# %% [markdown] lang="ja" en="9f49a09c"
# 行の順序を入れ替えると節約の半分が失われ、名前を付け替えても半分が失われます。そこで、もっともらしい説明が浮かびます。
# メモリに入っているのは、半分が名前で、半分が順序だ、というものです。
# これを信じる前に、ほかに何を変えてしまったかを考えてみてください。境目の前の**最後**の行も別の場所に移り、
# 境目で2つに切れた単語は、前半が別のものになっていました。
#
# そこで、最後の64バイトはそのままにして、もう一度試します。
#
# **実行する前に予想してみましょう。** この説明が正しければ、どちらの場合も、やはり節約の半分ほどが失われるはずです。どうなると思いますか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
last_kept = trials.by_content(model, files, kept=64)
for name, cost in last_kept.items():
    share = (reach[0] - cost) / gain
    print(f"{name:15} {cost:.2f} bits, {share:5.0%} of the gain")

# %% [markdown] lang="en"
# The story falls. With the last 64 bytes in place, other names before them cost a tenth of the gain, the order of the lines next to nothing, and even
# another file leaves three quarters. What the memory of this model holds is, above all, **the last line or two**: what the segment's
# border took from attention. Names from further back are a small rest.
#
# (And where all 512 bytes are another file's, it costs *more* than to have read nothing: the memory does not know that this is not its
# file.)

# %% [markdown] lang="ja" en="46d9ee4e"
# この説明も成り立ちません。最後の64バイトがそのままなら、それより前の名前を付け替えても、失われる節約は10分の1ほどで、
# 行の順序を入れ替えてもほとんど失われず、別のファイルにしても4分の3が残ります。
# このモデルのメモリに入っているのは、何よりも**最後の1、2行**、
# つまり、セグメントの境目のためにアテンションから見えなくなったものです。それより前の名前は、わずかに残っているにすぎません。
#
# （512バイト全部が別のファイルだと、何も読まなかった場合よりコストが**高く**なります。別のファイルだということが、メモリにはわからないからです。）

# %%
for name in ("lines shuffled", "names renamed"):
    assert changed[name] - changed["as they are"] > 0.3 * gain
    assert last_kept[name] - changed["as they are"] < 0.2 * gain
assert last_kept["another file"] < reach[0] - 0.6 * gain
assert changed["another file"] > reach[0] + 0.2 * gain

# %% [markdown] lang="en"
# ### Exercise 2: for which names?
#
# The same text was read twice: once with the memory as it is, which cost `bits_on`, and once with another, which cost
# `bits_off` (both as in exercise 1, without the first byte). A name is a run of letters, digits and `_` that is as long
# as can be. For each name sum the bits that the memory saved, over all of its bytes and all places where it stands, and
# return the `n` names with the largest sums. `text` has one character for each byte.

# %% [markdown] lang="ja" en="84e140da"
# ### 演習2：どの名前で？
#
# 同じテキストを2回読みました。1回目はメモリをそのまま使い、コストは `bits_on`、2回目は別のメモリを使い、コストは `bits_off`
# でした（どちらも演習1と同じく、最初のバイトの値はありません）。名前とは、英数字と `_` が続く限りの並びのことです。
# メモリによって節約できたビットを、名前ごとに、そのすべてのバイトと、現れるすべての場所について合計し、
# 合計の大きい順に `n` 個の名前を返してください。`text` の1文字は1バイトです。


# %%
def by_memory(text, bits_on, bits_off, n):
    return ...  # a list of names


exercises.BY_MEMORY.check(by_memory)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# `re.finditer(r"\w+", text)` finds the names; `found[0]` is the name, and `found.span()` its first place and the place
# after its last. Put a 0 before the differences: then entry `t` belongs to byte `t`, and a slice finds its bytes.
#
# </details>

# %% [markdown] lang="ja" en="c995131a"
# <details><summary>ヒント</summary>
#
# 名前は `re.finditer(r"\w+", text)` で見つかります。`found[0]` が名前で、`found.span()` は、名前の最初の場所と、最後の場所の次の場所です。
# 差の先頭に0を1つ加えておくと、値 `t` がバイト `t` のものになり、名前のバイトをスライスで取り出せます。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def by_memory(text, bits_on, bits_off, n):
#     saving = F.pad(bits_off - bits_on, (1, 0))
#     saved = Counter()
#     for found in re.finditer(r"\w+", text):
#         first, end = found.span()
#         saved[found[0]] += saving[first:end].sum().item()
#     return [name for name, _ in saved.most_common(n)]
# ```
#
# </details>

# %% [markdown] lang="en"
# ## 5. Surprise over text
#
# Three numbers belong to every byte: its **bits**, what the model paid; the **surprise** $|u|$ of the memory, the size of the gradient with which
# the byte is written; and the step $\theta$ of that write. The first is measured at the model's end, the second inside it, and nothing
# forces the two to agree.
#
# **Predict before you run.** Where will the model pay: at a word's beginning, or inside? And is the memory surprised at the same places?

# %% [markdown] lang="ja" en="2845a35c"
# ## 5. テキストを読むときの驚き
#
# どのバイトにも、3つの数があります。モデルにとってのコストである**ビット**、メモリの**驚き** $|u|$（そのバイトを書き込むときの勾配の大きさ）、
# そして、その書き込みのステップ幅 $\theta$ です。
# 1つ目はモデルの出力で、2つ目はモデルの内部で測るので、この2つが一致するとは限りません。
#
# **実行する前に予想してみましょう。**
# モデルのコストが高いのは、単語の始まりでしょうか、途中でしょうか。また、メモリも同じところで驚くでしょうか。

# %%
predict("...")

# %%
lab = text_lab()
lab

# %% [markdown] lang="en"
# Press "a file" in the lab, then "bits" and "surprise |u|" by turns. The slider "byte" moves the frame; beside it stands what the model expected there, and
# what it would expect if nothing had ever been written. A text of yours can be read, too: Python, English, Japanese.

# %% [markdown] lang="ja" en="ad5b4edf"
# 実験室で「ファイル」を選び、色を「ビット」と「驚き |u|」で切り替えてみてください。スライダー「バイト」で枠が動き、その横に、
# モデルがそこで予測したものと、一度も書き込まなかった場合に予測するはずのものが表示されます。
# Python でも英語でも日本語でも、自分のテキストを読ませることもできます。
#
# 次の出力は、ビットと驚きの相関係数（correlation）です。

# %% tags=["nbval-ignore-output"]
shown = reading.read(texts.passage("file").text)
both = torch.stack((shown.bits, shown.surprise))[:, 1:]
together = torch.corrcoef(both)[0, 1].item()
print(f"correlation of bits and surprise: {together:.1f}")
assert abs(together) < 0.5

# %% [markdown] lang="en"
# Little. The memory is surprised where its own answer is wrong, not where the next byte is hard to foretell.
#
# ### Read twice
#
# A favourite question: does the surprise fall when a passage is repeated? A passage of 128 bytes is read, then 192 others, then the
# passage again. Both readings begin where a segment does, so attention sees the same bytes both times, and nothing from
# before. Whatever differs is the memory's doing.
#
# **Predict before you run.** At the second reading: what becomes of the surprise, and what of the bits?

# %% [markdown] lang="ja" en="f5e01f26"
# 関係は弱いものです。メモリが驚くのは、自分の答えが間違っているところで、次のバイトを予測しにくいところではありません。
#
# ### 2回読む
#
# 同じ一節をもう一度読むと、驚きは減るのでしょうか。よくある質問です。
# 128バイトの一節を読み、別の192バイトを読んだ後、同じ一節をもう一度読みます。
# どちらの回もセグメントの先頭から始まるので、アテンションから見えるバイトは2回とも同じで、それより前は見えません。
# 違いがあれば、それはメモリによるものです。
# 出力の first は1回目、between はその間の192バイト、second は2回目で、それぞれのビットと驚き $|u|$ の平均です。
#
# **実行する前に予想してみましょう。** 2回目には、驚きはどうなるでしょうか。ビットはどうなるでしょうか。

# %%
predict("...")


# %%
def means(kind, frozen=None):
    text, spans = texts.passage(kind)
    found, rows = reading.read(text, frozen), {}
    for name, (first, end) in spans.items():
        series = (found.bits, found.surprise)
        rows[name] = [s[first:end].mean().item() for s in series]
        print(f"{name:8} {rows[name][0]:.1f} bits   |u| {rows[name][1]:.1f}")
    return rows


# %% tags=["nbval-ignore-output"]
twice = means("repeated")

# %% [markdown] lang="en"
# The surprise falls, and the bits do not. Is the memory less surprised *because* it has read this passage? Two experiments: freeze the memory
# before the first reading (in the lab: "freeze", "from byte" 64); and let it read *another* passage in place of the first reading.
#
# **Predict before you run.** What will the surprise at the second reading be in each?

# %% [markdown] lang="ja" en="9a195ec4"
# 驚きは下がりますが、ビットは下がりません。驚きが下がったのは、メモリがこの一節を読んだことがある**から**でしょうか。
# 2つの実験で確かめます。
# 1つは、1回目の前にメモリを凍結することです（実験室では「凍結」を選び、「凍結の開始」を64にします）。
# もう1つは、1回目の代わりに**別の**一節を読ませることです（出力の another がその一節、passage が元の一節です）。
#
# **実行する前に予想してみましょう。** それぞれの実験で、2回目の驚きはどうなるでしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
still = means("repeated", frozen=64)
print()
other = means("other")

# %% [markdown] lang="en"
# Frozen, the second reading surprises exactly as the first: it is writing that lowers the surprise. But after *another* passage the
# surprise is nearly as low. Most of the fall is no recognition: any text of this kind brings it about.
#
# So a fall of the memory's surprise is no proof that a passage is known, and the bits do not prove it either: this model does not learn to
# copy. Read five times in a row, with nothing between:

# %% [markdown] lang="ja" en="585b4b9d"
# 凍結すると、2回目の驚きは1回目とまったく同じになるので、驚きを下げているのは書き込みです。
# ところが、**別の**一節を読んだ後でも、驚きはほとんど同じだけ下がります。
# つまり、下がった分の大部分は、その一節を覚えていたからではなく、この種のテキストなら何を読んでも下がる分です。
#
# ですから、メモリの驚きが下がっても、その一節を知っている証拠にはなりません。ビットも証拠にはなりません。
# このモデルは、前に読んだものをコピーすることを学んでいないからです。今度は、間に何もはさまず、続けて5回読ませます
# （出力は、1回目から5回目までのビットと驚きの平均です）。

# %% tags=["nbval-ignore-output"]
five = reading.read(texts.BEGINNING + 5 * texts.PASSAGE)
blocks = slice(len(texts.BEGINNING), None)
for name in ("bits", "surprise"):
    values = getattr(five, name)[blocks].view(5, -1).mean(1)
    print(f"{name:9}", [round(value, 2) for value in values.tolist()])
    change = (values[4] - values[0]).item() / values[0].item()
    assert (change < -0.1) == (name == "surprise")
fall = twice["first"][1] - twice["second"][1]
assert fall > 0.3
assert twice["first"][1] - other["passage"][1] > 0.6 * fall
assert abs(still["first"][1] - still["second"][1]) < 0.02

# %% [markdown] lang="en"
# ### Exercise 3: predict where it is dear
#
# From the text alone, without the model: which bytes cost it most? `guess(text, n)` names `n` places, a tenth of the
# text, of passages that it has not seen; `text` has one character for each byte. The check lets the model read them and
# counts how many of the `n` dearest bytes you named. The first letters of words find more than twice what chance does.
# Find a tenth more than they.

# %% [markdown] lang="ja" en="c6f36b80"
# ### 演習3：コストの高いところを予想する
#
# モデルを使わず、テキストだけから予想してください。コストが最も高いのは、どのバイトでしょうか。
# `guess(text, n)` は、初めて見るテキストについて、全体の1割にあたる `n` 個の場所を返します。`text` の1文字は1バイトです。
# チェックでは、同じテキストをモデルに読ませ、コストの高い順に `n` 個のバイトのうち、いくつ当たったかを数えます。
# 単語の最初の文字を挙げるだけで、でたらめに挙げた場合の2倍以上が当たります。それを1割以上、上回ってください。


# %%
def guess(text, n):
    return ...  # a list of places, from 0 to len(text) - 1


exercises.check_spikes(guess)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# The verdict shows three bytes that you missed, each between « and ». Start from a rule that gives each character a
# number: `sorted(range(len(text)), key=...)[:n]` takes the smallest. Dear is what a reader would not bet on. What would
# you bet on if you knew nothing about a place but how often each character stands in the text? And what changes if it is a word's first?
#
# </details>

# %% [markdown] lang="ja" en="9e0835b3"
# <details><summary>ヒント</summary>
#
# チェックの結果には、外したバイトが3つ、« と » に挟まれて表示されます。文字ごとに数を決める規則から始めましょう。
# `sorted(range(len(text)), key=...)[:n]` で、その数の小さいものから取れます。コストが高いのは、読み手なら賭けないような文字です。
# テキストの中で各文字が何回現れるかのほかに、その場所について何も知らないとしたら、どの文字に賭けますか。
# それが単語の最初の文字なら、どう変わるでしょうか。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def guess(text, n):
#     def known(place):
#         first = place == 0 or not text[place - 1].isalnum()
#         return text.count(text[place]) / (1 + first)
#
#     return sorted(range(len(text)), key=known)[:n]
# ```
#
# </details>

# %% [markdown] lang="en"
# ## 6. It writes
#
# A language model can go on from where it is. It does so from its state, and that does not grow: the next byte costs as much after a
# megabyte as after a line (lesson 09).

# %% [markdown] lang="ja" en="afa4ba8e"
# ## 6. 続きを書かせる
#
# 言語モデルは、読み終えたところから続きを書けます。続きは状態だけから書かれ、状態は大きくなりません。
# 次の1バイトにかかる計算は、1メガバイト読んだ後でも、1行読んだ後でも同じです（レッスン09）。
#
# 次の出力の ⟦ と ⟧ の間が、モデルの書いた続きです。その次の出力は、読んだバイト数と、状態を表す数値の個数（numbers in the state）です。

# %% tags=["nbval-ignore-output"]
prompt = page[None, :3072].long()
state = trials.read(model, prompt[:, :-1])
made, _ = model.generate(
    prompt[:, -1:], 300, state, temperature=0.7, seed=0
)
print(bytes(prompt[0, -200:].tolist()).decode(), end="")
print("⟦" + bytes(made[0, 1:].tolist()).decode(errors="replace") + "⟧")

# %%
for tokens in (1024, 8192):
    state = trials.read(model, page[None, :tokens])
    size = sum(tensor.numel() for tensor in state.tensors().values())
    print(f"after {tokens:,} bytes: {size:,} numbers in the state")

# %% [markdown] lang="en"
# It has learned the look of Python, some of its words, and none of its sense: half a million parameters, 6.5 million bytes read.
#
# ### Through Hugging Face
#
# The same weights in the class that `transformers` knows (it needs the extra `hf`): the same logits, `generate`, `save_pretrained`, and a cache
# that is this library's state.

# %% [markdown] lang="ja" en="b473ab6f"
# Python らしい見た目と、いくつかの単語は身につきましたが、意味はまったくわかっていません。パラメータは約50万個、読んだのは約650万バイトです。
#
# ### Hugging Face を通して使う
#
# 同じ重み（weights）を、`transformers` で扱えるクラスに入れます（追加の `hf` のインストールが必要です）。
# ロジット（logit）は同じで、`generate` も `save_pretrained` も使え、キャッシュは、このライブラリの状態です
# （出力の the same text は「同じテキストになったか」という意味です）。

# %%
hub = trials.for_hugging_face(model)
if hub is not None:
    start_of_file = page[None, :512].long()
    theirs = hub(input_ids=start_of_file).logits
    assert torch.allclose(theirs, model(start_of_file).logits, atol=1e-4)
    written = hub.generate(start_of_file, max_new_tokens=20, do_sample=False)
    ours, _ = model.generate(start_of_file, 20)
    print("the same text:", torch.equal(written, ours))

# %% [markdown] lang="en"
# ## 7. Your own text
#
# `python -m titans.recipes text --file my_novel.txt` trains all of this on a text of yours (any UTF-8, some hundred thousand bytes at
# least; the last eighth of each file is held out) and prints the same table. `--runs mac --seeds 0` does one model, which takes about ten minutes.
# Interrupted, it goes on from where it was. The checkpoint lands in `checkpoints/text/`, and `load_checkpoint` reads it.

# %% [markdown] lang="ja" en="f911aa1b"
# ## 7. 自分のテキストで
#
# `python -m titans.recipes text --file my_novel.txt` を実行すると、これらのモデルすべてを手元のテキストで訓練し、同じ表を表示します。
# テキストは UTF-8 なら何でもかまいませんが、少なくとも数十万バイトは必要で、各ファイルの最後の8分の1が取り置かれます。
# `--runs mac --seeds 0` を付けると、モデル1つだけになり、10分ほどで終わります。
# 途中で止めても、次は続きから始まります。チェックポイントは `checkpoints/text/` に保存され、`load_checkpoint` で読み込めます。

# %% [markdown] lang="en"
# ## Summary
#
# - Bits per byte are $-\log_2$ of the chances given to what came. Compare models at the same place of the same files.
# - Carry the state over pieces and detach it, and the memory lasts; train on single pieces, and it falls apart beyond their length,
#   unless its state begins anew.
# - At equal steps the memory wins, by about a tenth of a bit. At equal time the best model is a MAC whose state begins anew every 512 bytes;
#   the one that was trained to last draws with attention.
# - On this text, at this size, the memory holds the last line or two, and little from before. That is not the forgetting gate's doing: without it,
#   it gets worse.
# - The memory's surprise falls when a passage is repeated, and nearly as much after another passage. It is no proof of knowing.
# - The paper's models have a thousand times as many parameters and read a hundred thousand times as much. What a memory does for them, these cannot tell.
#
# ## References
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663), section 5 for its language models.

# %% [markdown] lang="ja" en="cc150195"
# ## まとめ
#
# - 1バイト当たりのビット数は、実際に来たバイトに与えた確率の $-\log_2$ の平均です。モデルは、同じファイルの同じ場所で比べます。
# - 状態を区間から区間へ引き継ぎ、切り離しながら訓練すれば、メモリは長く使えます。1区間ずつ訓練すると、その長さを越えたところで崩れます。
#   ただし、区間ごとに状態をリセットすれば、崩れません。
# - ステップ数が同じなら、メモリのあるモデルが約0.1ビットの差で勝ちます。時間が同じなら、最もよいのは、512バイトごとに状態をリセットする MAC です。
#   長く使えるように訓練した MAC は、アテンションと引き分けます。
# - このテキストと、この大きさのモデルでは、メモリに入っているのは最後の1、2行で、それより前のものはわずかです。忘却のゲートのせいではありません。
#   ゲートを外すと、かえって悪くなるからです。
# - 同じ一節を繰り返すと、メモリの驚きは下がります。しかし、別の一節を読んだ後でも、ほとんど同じだけ下がるので、知っている証拠にはなりません。
# - 論文のモデルは、パラメータが千倍、読んだ量が十万倍ほどあります。そこでメモリがどう働くかは、ここのモデルからはわかりません。
#
# ## 参考文献
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663)。言語モデルは5節。

# %% tags=["nbval-ignore-output"]
progress()
