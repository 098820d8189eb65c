# %% [markdown] lang="en"
# # 10 · A language model
#
# *Titans, step by step.* About 45 minutes to read, 80 with the exercises; the code runs in about 40 seconds.
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

# %% [markdown] lang="ja" en="db9f4af5"
# # 10 · 言語モデル
#
# 「Titans, step by step」（一歩ずつ学ぶ Titans）のレッスン10です。読むのに約45分、演習も解くと約80分、コードの実行に約40秒かかります。
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

from titans import TitansLM, text_measures
from titans.checkpoints import load_checkpoint
from titans.corpus import Text
from titans.lesson import predict, progress, start
from titans.lesson.kit import cards
from titans.lesson.lesson_10 import exercises, pictures, trials
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
# So far we made up what was read: pairs, noise, needles. A language model reads text. Which text is on your machine
# already, is long, and may be read by anybody? The source of Python's own standard library. It is some millions of
# bytes, and it is full of what a memory should be good for: names that come back.
#
# We read it byte by byte. There are 256 tokens, and no tokeniser. One file in eight is *held out*: no model of this
# lesson has been trained on it. Which files they are is decided by a checksum of their names, so it is the same in
# every version of Python.

# %% [markdown] lang="ja" en="073d7f16"
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
# A model gives every next byte a chance $p$. What the byte costs is $-\log_2 p$ **bits**: 0 where the model was sure
# and right, 1 where it was right to take even odds, 8 where it knew nothing of 256 bytes. The mean over a text is *bits
# per byte*, the cross-entropy of every training loop in other units. It is also a size: a good compressor could store
# the text in so many bits.
#
# **Predict before you run.** Without any network: how many bits does a byte cost if you know how often each byte
# occurs? If you know the byte before it, too? And how good is `zlib`, which is made for this?

# %% [markdown] lang="ja" en="4a0860d8"
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
# `zlib` and `xz` know nothing of Python when they begin: all that they gain beyond how often each byte occurs, they
# gain from what came back. That is a memory at work, and one that keeps everything. These are the numbers to beat.

# %% [markdown] lang="ja" en="6f5f685d"
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
# import math
#
# def bits(logits, tokens):
#     logarithms = logits[:-1].log_softmax(-1) / math.log(2)
#     return -logarithms.gather(1, tokens[1:, None])[:, 0]
# ```
#
# </details>

# %% [markdown] lang="en"
# ## 2. Trained to last
#
# The model is small: a MAC with two layers of 128 features, segments of 64 bytes, and a memory in the second layer, one
# matrix. How do you train it? A file of 16,384 bytes is too long to go back through. So it is read in pieces of 512,
# and the state is **carried** from piece to piece, and **detached**: the numbers go on, the gradient stops.
#
# By hand, on two rows and pieces of 64 bytes, four in a row:

# %% [markdown] lang="ja" en="9b76608b"
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
by_hand, state = TitansLM(small.config), None
optimizer = torch.optim.AdamW(parameter_groups(by_hand))
for step in range(small.steps):
    for group in optimizer.param_groups:
        group["lr"] = small.rate(step)
    batch = small.batch(0, step)
    output = by_hand(batch.tokens, state, labels=batch.labels)
    optimizer.zero_grad(set_to_none=False)
    output.loss.backward()
    torch.nn.utils.clip_grad_norm_(by_hand.parameters(), small.clip)
    optimizer.step()
    state = output.state.detach()

# %%
library = train(small, seed=0, progress=False).model
pairs = zip(by_hand.parameters(), library.parameters(), strict=True)
assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
print("the library's training, to the last bit")

# %% [markdown] lang="en"
# The recipe `text` does this with eight rows for 1,600 steps, about ten minutes on a laptop. Every row reads stretches
# of its own, of 1, 2, 4, 8 or 16 pieces, so that nearly every step has beginnings in it, and most have places far
# inside.
#
# Why carry the state? Try what happens without. The recipe has the same model trained on single pieces of 512 bytes, as
# many steps. And beside them, without a memory:
#
# - *attention* in segments of 64, for as many steps, and *as long*: for as much time, 2.1 times as many steps;
# - a *window of 512*: each byte sees the 512 before it. A step of it counts about as many operations as one of MAC.
#
# **Predict before you run.** The table shows bits per byte in held-out files: of the first 64 bytes, of those up to
# 256, and so on. Three seeds each: the median, and the worst in brackets. Who wins at the start of a file, who at its
# end? And what becomes of the MAC that never saw more than 512 bytes?

# %% [markdown] lang="ja" en="659519ca"
# レシピ `text` は、同じことを8行、1,600ステップで行い、ノートパソコンなら10分ほどで終わります。
# 行ごとに、別のところから1、2、4、8、16区間のいずれかを続けて読むので、ほとんどのステップに読み始めの区間が含まれ、多くのステップには、ずっと奥の区間も含まれます。
#
# なぜ状態を引き継ぐのでしょうか。引き継がないとどうなるかを試してみましょう。
# レシピには、同じモデルを512バイトの区間1つずつで、同じステップ数だけ訓練したもの（single pieces）もあります。
# これと、次のメモリのないモデルを比べます。
#
# - 64バイトのセグメントの**アテンション**（attention）。ステップ数が同じものと、**時間**が同じもの（as long、2.1倍のステップ数）。
# - **512のウィンドウ**（window of 512）。どのバイトからも、その前の512バイトが見えます。1ステップの演算数は、MAC とほぼ同じです。
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
# (The bytes from 256 to 1,024 are dear for all: compare within a column.)
#
# - *At the start* MAC loses. (In its training a row seldom has read nothing.)
# - *At equal steps* MAC wins behind the first 256 bytes, by a tenth of a bit and more.
# - *At equal time* attention has caught up: it wins the start, and there is next to nothing between them at the end.
# - *The window* sees more than any of them and is behind attention in segments everywhere, in the first 64 bytes, too,
#   where it sees no more. We have not found out why.
#
# And the MAC that never saw more than 512 bytes falls apart: at the end of a file it costs nearly as much as counting
# pairs of bytes.
#
# What is wrong with it? Look inside both: the half-life of what is written (from the mean of $\alpha$), and the size of
# $M_t$, after 512 bytes and after 16,384.

# %% [markdown] lang="ja" en="0d854bd8"
# （256〜1,024バイトのところは、どのモデルでもコストが高くなります。同じ列の中で比べてください。）
#
# - **始まり**では、MAC が負けます。（MAC の訓練では、1つの行が何も読んでいないところから始まることは、あまりありません。）
# - **同じステップ数**なら、最初の256バイトより先で MAC が勝ち、差は0.1ビットかそれ以上です。
# - **同じ時間**なら、アテンションが追いつきます。始まりではアテンションが勝ち、終わりではほとんど差がありません。
# - **ウィンドウ**は、見える範囲がいちばん広いのに、どこでも、セグメントのアテンションに及びません。
#   見える範囲が変わらないはずの最初の64バイトでも、そうです。理由は、まだわかっていません。
#
# そして、512バイトより長いものを一度も見ていない MAC は、崩れてしまいます。
# ファイルの終わりでは、コストが、2バイトのペアの頻度を数えただけの場合に近くなります。
#
# 何がいけないのでしょうか。2つの MAC の中を見てみましょう。
# 書き込まれたものの半減期（half-life、$\alpha$ の平均から求めたバイト数）と、512バイト後と16,384バイト後の $M_t$ の大きさ（size of M）です。

# %%
for run in ("mac", "mac, single pieces"):
    found = card["runs"][run]["inside"]
    half, *size = [found[name]["median"] for name in found]
    sizes = " to ".join(f"{number:.0f}" for number in size)
    print(f"{run:18} half-life {half:6,.0f}, size of M {sizes}")

# %% [markdown] lang="en"
# Reading 512 bytes at a time, it never had to let go: what it writes stays for thousands of bytes, and piles up. Is
# that what breaks it? Then it must be cured by the simplest way to let go: every 512 bytes, halve what has been written
# since $M_0$, $M \leftarrow (M + M_0) / 2$. Nothing is trained for it. And beside it the radical cure, a state that
# begins anew every 512 bytes.
#
# **Predict before you run.** Both MACs, with either cure: who wins at the end of a file?

# %% [markdown] lang="ja" en="c7746aa5"
# 512バイトずつ読んでいる間は、何も手放す必要がありませんでした。書いたものは何千バイトもの間残り、たまっていきます。
# これが崩れる原因なのでしょうか。そうだとすれば、いちばん簡単な手放し方で直るはずです。
# 512バイトごとに、$M_0$ より後に書き込んだものを半分にします（$M \leftarrow (M + M_0) / 2$）。そのための訓練はしません。
# それと並べて、もっと極端な直し方として、512バイトごとに状態をリセットして、初期状態に戻すこともします。
#
# **実行する前に予想してみましょう。** 2つの MAC のそれぞれを、どちらかの方法で直すと、ファイルの終わりで勝つのはどれでしょうか。

# %%
predict("...")

# %%
print("halved every 512 bytes")
print(trials.table(card, "halved"))
print("\nbegun anew every 512 bytes")
print(trials.table(card, "anew"))

# %% [markdown] lang="en"
# Either cures it, and more than that: the MAC of single pieces is now the best of all models here behind the first
# thousand bytes, at equal steps and at equal time, in the median of the seeds. It did not lack a memory that lasts.
# **It had not learned to let go**, as nothing in its training asked for it. (The paper's forgetting pulls $M$ to zero,
# and $M_0$ with it. This pulls to $M_0$; lesson 11 comes back to it.)
#
# The MAC that was trained on stretches has learned it, and is hardly moved by either. It loses two hundredths of a bit
# when it begins anew: so much, and no more, was there in what it had carried. Why so little? The next sections look at
# what the memory holds.

# %% [markdown] lang="ja" en="6732b00a"
# どちらの方法でも直り、それどころか、1区間ずつ訓練した MAC が、最初の1,000バイトほどより先のどこでも、ステップ数が同じでも時間が同じでも、（シードの中央値で）いちばんよくなりました。
# 足りなかったのは、長く使えるメモリではありません。**手放すことを学んでいなかった**のです。訓練のどこにも、その必要がなかったからです。
# （論文の忘却（forgetting）では、$M$ をゼロに近づけるので、$M_0$ も失われます。ここでは $M_0$ に近づけました。レッスン11でもう一度取り上げます。）
#
# 長く続けて読んで訓練した MAC は、手放すことをすでに学んでいて、どちらの方法でも、ほとんど変わりません。リセットすると、100分の2ビットほど悪くなります。
# つまり、引き継いできたものには、それだけの役にしか立っていませんでした。なぜこんなに少ないのでしょうか。次の節から、メモリの中を調べます。


# %%
def at(kind, end):
    runs = card["runs"].items()
    return {r: f[kind][end]["median"] for r, f in runs if kind in f}


head, early, late = (at("bits", end) for end in ("64", "1024", "16384"))
assert head["mac"] > max(head["attention"], head["attention, as long"])
assert early["mac"] < early["attention"] - 0.1
assert late["mac"] < late["attention"] - 0.05
assert abs(late["mac"] - late["attention, as long"]) < 0.06
for end in ("64", "256", "1024", "4096", "16384"):
    costs = at("bits", end)
    assert costs["window of 512"] > costs["attention"]
single = late["mac, single pieces"]
assert late["mac"] + 0.7 < single < simple["after the byte before it"]

# %%
for kind in ("halved", "anew"):
    for end in ("4096", "16384"):
        cured, others = at(kind, end), at("bits", end)
        del others["mac, single pieces"]
        assert cured["mac, single pieces"] < min(others.values())
    assert abs(cured["mac"] - late["mac"]) < 0.05

# %% [markdown] lang="en"
# ## 3. What the memory brings
#
# Take the MAC that was trained on stretches, and take its memory away at a border of segments, where attention sees
# nothing of what was before. In the held-out files (but for tables of characters) we try some seventy borders; 512
# bytes were read before each. Behind it the model goes on with its memory *as it is*; with one *begun anew*; with
# *another file's*; and a copy reads all with a memory that is *never written*. The convolutions, which see three bytes
# back, stay as they are: they are not what we ask about.
#
# **Predict before you run.** Which of the four costs most? And how long does it take a memory that begins anew to catch
# up: 64 bytes, 512, or never?

# %% [markdown] lang="ja" en="2abfbe72"
# ## 3. メモリの取り分
#
# 続けて読んで訓練した MAC のメモリを、セグメントの境目で取り除きます。境目では、アテンションから前のものは何も見えません。
# 取り置いたファイル（文字の表は除きます）の70ほどの境目で試し、どの境目の前でも512バイトを読んでいます。
# 境目の後は、メモリが**そのまま**（as it is）、**リセット**（begun anew）、**別のファイルのもの**（another file's）の3通りで続けます。
# もう1つ、メモリに**一度も書かない**（never written）モデルのコピーにも、すべてを読ませます。
# 3バイト前まで見える畳み込み（convolution）は、そのままにします。ここで調べたいものではないからです。
#
# **実行する前に予想してみましょう。** 4つのうち、コストがいちばん高いのはどれでしょうか。
# また、リセットしたメモリは、64バイトで追いつくでしょうか。512バイトかかるでしょうか。それとも追いつかないでしょうか。

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
# Never written costs most, a quarter of a bit on every byte and more. But beware of that number: the model was
# *trained* with a memory and leans on it. The model that was trained without, *attention* in the table above, costs
# only about a tenth of a bit more than MAC. Leaving out after training and before it are two questions (lesson 08).
#
# The other two curves are the surprise. A new memory costs a tenth of a bit in the first segment, little in the next,
# and nothing after 256 bytes or so. Another file's costs more than a new one at first: what it holds misleads. So there
# *is* something in the memory that belongs to this file. But it is not what was read five hundred bytes ago.
#
# How far back does it reach? Let a new memory read only so many bytes before the border, and look at the 64 behind it.
#
# **Predict before you run.** With 1,024 bytes read before, how much better than with 64?

# %% [markdown] lang="ja" en="602afda7"
# いちばんコストが高いのは、一度も書かない場合で、どのバイトも4分の1ビットかそれ以上増えます。ただし、この数字には注意が必要です。
# このモデルはメモリ付きで**訓練**されていて、メモリに頼っているからです。メモリなしで訓練したモデル（上の表のアテンション）のコストは、
# MAC より0.1ビットほど高いだけです。訓練の後で外すことと、外したまま訓練することは、別の問いなのです（レッスン08）。
#
# 意外なのは、ほかの2本の線です。リセットしたメモリでは、最初のセグメントで0.1ビットほど増えますが、次のセグメントではわずかで、256バイトほどの後は、まったく増えません。
# 別のファイルのメモリでは、最初は、リセットするよりも悪くなります。入っているものが、かえって誤りのもとになるのです。
# つまり、メモリには、たしかにこのファイルのものが入っています。しかし、それは500バイト前に読んだものではありません。
#
# どこまで前に届いているのでしょうか。リセットしたメモリに、境目の前の何バイトかだけを読ませて、境目の後の64バイトのコストを調べます。
#
# **実行する前に予想してみましょう。** 前に1,024バイト読むと、64バイトだけ読む場合より、どれだけよくなるでしょうか。
#
# 出力の右側は、境目の後にある名前（4文字以上）のうち、読んだ範囲にもあるもの（names）の割合と、別のファイルの同じ長さの範囲にもあるもの（elsewhere）の割合です。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
lengths = (0, 64, 128, 256, 512, 1024)
reach = text_measures.reach(model, files, lengths)
known = trials.names_read_before(files, lengths)
for (length, cost), (own, other) in zip(
    reach.items(), known.values(), strict=True
):
    names = f"{own:4.0%} of names, elsewhere {other:3.0%}"
    print(f"{length:>5} bytes: {cost:.2f} bits; {names}")

# %% [markdown] lang="en"
# Most of the gain comes from the 64 bytes just before the border, and beyond 256 there is next to none. It is not that
# there is nothing more to find: of the names (of four letters or more) behind the border more and more have been read
# already, and few of them stand in any other file. So on this text, in this model, the "long-term memory" is a bridge
# over the border of a segment. The facts of lessons 00, 07 and 09 lasted for tens of thousands of tokens. Why not here?
#
# The first suspect is the forgetting gate. The other MAC is a test of it: within 512 bytes it forgets next to nothing.
# If forgetting were the reason, its memory must reach further.
#
# **Predict before you run.** Will it?

# %% [markdown] lang="ja" en="74c33919"
# 節約の大部分は、境目の直前の64バイトによるもので、256バイトから先は、ほとんど増えません。それより前に、役に立つものがないわけではありません。
# 境目の後の名前（4文字以上）のうち、すでに読んだものの割合は増え続け、別のファイルにもあるものは、わずかです。
# つまり、このテキストと、このモデルでは、「長期メモリ」は、セグメントの境目を越えるための橋です。
# レッスン00、07、09の事実は、何万トークンもの間、残っていました。ここでは、なぜ残らないのでしょうか。
#
# まず疑わしいのは、忘却のゲート（gate）です。もう1つの MAC で確かめられます。512バイトの間では、ほとんど何も忘れないからです。
# 忘却が理由なら、そのメモリは、もっと前まで届くはずです。
#
# **実行する前に予想してみましょう。** 届くでしょうか。

# %%
predict("...")

# %%
print(trials.table(card, "reach"))

# %% [markdown] lang="en"
# (The columns are the bytes read before the border; these are the card's files and all seeds.) It does not. What it has
# read beyond the last 128 bytes or so is of no more use to it than to the other. This explanation falls.
#
# Others stand, and we have not decided between them. *Training*: a gradient reaches back 512 bytes at most, and on
# average half of that. *Room*: where the tasks of other lessons wrote a few pairs and let noise pass, every byte of
# text is written, into a matrix of 128 features. *Practice*: 6.5 million bytes are little. Pieces of 2,048, a deep
# memory, ten times the steps: each is a line in `titans/recipes.py`.

# %% [markdown] lang="ja" en="d8ca3ccb"
# （列は、境目の前に読んだバイト数です。カードのファイルで、すべてのシードを測りました。）届きませんでした。
# 最後の128バイトほどより前に読んだものは、もう1つの MAC と同じように、ほとんど役に立っていません。この説明は退けられました。
#
# ほかの説明は残っていて、どれが正しいかは、まだわかりません。1つは**訓練**です。勾配（gradient）は最大でも512バイト、平均ではその半分しか戻りません。
# もう1つは**広さ**です。ほかのレッスンの課題では、いくつかのペアを書き込むだけで、雑音は素通りさせましたが、テキストでは、
# どのバイトも、128次元の行列に書き込まれます。
# そして**練習**です。650万バイトは、わずかな量です。2,048バイトの区間、深いメモリ、10倍のステップ数は、どれも `titans/recipes.py` の1行で試せます。

# %%
assert reach["0"] - reach["64"] > 0.6 * (reach["0"] - reach["1024"])
assert reach["256"] - reach["1024"] < 0.15 * (reach["0"] - reach["1024"])
assert known[1024][0] - known[1024][1] > 1.5 * (known[64][0] - known[64][1])
for run in ("mac", "mac, single pieces"):
    of = {n: r["median"] for n, r in card["runs"][run]["reach"].items()}
    assert of["128"] - of["512"] < 0.15 * (of["0"] - of["512"])

# %% [markdown] lang="en"
# ## 4. What is in it
#
# Now take apart what is read before the border, 512 bytes of it, and leave it as long as it was: its *lines shuffled*;
# every *name renamed* (four letters or more, and no word of Python's own), to a name of the same length from another
# file, the same one wherever it stands; *another file* altogether. The last 4 bytes stay as they are, for the
# convolutions.
#
# **Predict before you run.** If the memory has learned the names of this file, which of them costs most? And if it
# holds where in a line, a list, an indented block we are?

# %% [markdown] lang="ja" en="785344e0"
# ## 4. 何が入っているか
#
# 今度は、境目の前に読む512バイトを、長さはそのままで変えてみます。**行の順をでたらめにする**（lines shuffled）、
# **名前**（4文字以上で、Python の予約語などではないもの）を、別のファイルにある同じ長さの名前に**替える**（names renamed。同じ名前は、いつも同じものに替えます）、
# まるごと**別のファイル**にする（another file）の3通りです。最後の4バイトは、畳み込みのために、そのままにします。
#
# **実行する前に予想してみましょう。** メモリがこのファイルの名前を覚えたのなら、コストがいちばん増えるのはどれでしょうか。
# 行や、リストや、字下げしたブロックのどこにいるかが入っているのなら、どれでしょうか。
#
# 出力の「of the gain lost」は、何も読んでいないメモリと比べた節約のうち、失われた割合です。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
changed = trials.by_content(model, files, kept=4)
gain = reach["0"] - changed["as they are"]
for name, cost in changed.items():
    lost = (cost - changed["as they are"]) / gain
    print(f"{name:15} {cost:.2f} bits, {lost:5.0%} of the gain lost")

# %% [markdown] lang="en"
# Names are a small part of it: other names cost a seventh of the gain. Another order of the lines costs more, and
# another file costs more than all of it: the memory does not know that this is not its file.
#
# Is it the order of *all* lines that counts? Shuffling also moved the last one away. Once more, with the last 64 bytes
# as they are.
#
# **Predict before you run.** What is left of the three differences?

# %% [markdown] lang="ja" en="2546e52c"
# 名前は、わずかな部分にすぎません。名前を替えても、失われるのは節約の7分の1ほどです。行の順を変えるともっと失われ、別のファイルでは、全部よりも多く失われます。
# メモリには、それがこのファイルでないことがわからないからです。
#
# では、効いているのは、**すべて**の行の順でしょうか。行の順を変えたとき、最後の行も別の場所に移っていました。最後の64バイトをそのままにして、もう一度試します。
#
# **実行する前に予想してみましょう。** 3つの差は、どれだけ残るでしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
last_kept = trials.by_content(model, files, kept=64)
for name, cost in last_kept.items():
    lost = (cost - changed["as they are"]) / gain
    print(f"{name:15} {cost:.2f} bits, {lost:5.0%} of the gain lost")

# %% [markdown] lang="en"
# With the last 64 bytes in place the order of all that is before them hardly counts, nor do its names; and of another
# file's harm a fifth is left. What this memory holds is, above all, **the last line or two**: what the segment's border
# took from attention.

# %% [markdown] lang="ja" en="591d69ff"
# 最後の64バイトがそのままなら、それより前の行の順も名前も、ほとんど関係がありません。別のファイルの害も、5分の1しか残りません。
# このメモリに入っているのは、何よりも**最後の1、2行**、つまり、セグメントの境目でアテンションから見えなくなったものなのです。

# %%
base = changed["as they are"]
assert changed["names renamed"] - base < 0.35 * gain
assert changed["lines shuffled"] > changed["names renamed"]
assert changed["another file"] > reach["0"]
for name in ("lines shuffled", "names renamed"):
    assert last_kept[name] - base < 0.2 * gain
harm = changed["another file"] - base
assert last_kept["another file"] - base < 0.35 * harm

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
# import re
# from collections import Counter
#
# def by_memory(text, bits_on, bits_off, n):
#     saving = torch.nn.functional.pad(bits_off - bits_on, (1, 0))
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
# Three numbers belong to every byte: its **bits**, what the model paid; the **surprise** $|u|$ of the memory, the size
# of the gradient with which the byte is written; and the step $\theta$ of that write. The first is measured at the
# model's end, the second inside it, and nothing forces the two to agree.
#
# **Predict before you run.** Where will the model pay: at a word's beginning, or inside? And is the memory surprised at
# the same places?

# %% [markdown] lang="ja" en="860109aa"
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
# Press "a file" in the lab, then "bits" and "surprise |u|" by turns. The slider "byte" moves the frame; beside it
# stands what the model expected there, and what it would expect if nothing had ever been written. A text of yours can
# be read, too: Python, English, Japanese.

# %% [markdown] lang="ja" en="472f299c"
# 実験室で「ファイル」を選び、色を「ビット」と「驚き |u|」で切り替えてみてください。スライダー「バイト」で枠が動き、その横に、
# モデルがそこで予測したものと、一度も書き込まなかった場合に予測するはずのものが表示されます。
# Python でも英語でも日本語でも、自分のテキストを読ませることもできます。
#
# 次の出力は、ビットと驚きの相関係数（correlation）です。

# %% tags=["nbval-ignore-output"]
kinds = trials.in_words(model, files)
for name, (cost, surprised) in kinds.items():
    print(f"{name:15} {cost:.1f} bits   |u| {surprised:.1f}")

# %% [markdown] lang="en"
# The model pays at the beginnings of words, twice what it pays inside them. The memory's surprise is about the same
# everywhere: it is surprised where its own answer is wrong, and that has little to do with how hard the next byte is to
# foretell.
#
# ### Read twice
#
# A favourite question: does the surprise fall when a passage is repeated? From each file a passage of 128 bytes is
# read, then 192 others, then the passage again. Both readings begin where a segment does, so attention sees the same
# bytes both times, and nothing from before. And a control: the same text, but in place of the first reading *another
# file's* passage.
#
# **Predict before you run.** At the second reading: what becomes of the surprise, and what of the bits? And after
# another passage?

# %% [markdown] lang="ja" en="3bb520f5"
# モデルのコストは、単語の始まりで、途中の2倍になります。メモリの驚きは、どこでもほぼ同じです。
# メモリが驚くのは自分の答えが間違っているところで、それは、次のバイトがどれだけ予測しにくいかとは、あまり関係がありません。
#
# ### 2回読む
#
# よくある質問に、同じ文章をもう一度読むと驚きは減るのか、というものがあります。それぞれのファイルから、128バイトの一節を読み、別の192バイトを読んだ後、同じ一節をもう一度読みます。
# どちらもセグメントの先頭から始まるので、アテンションから見えるものは2回とも同じで、それより前は見えません。
# 比べるために、1回目の代わりに**別のファイル**の一節を読ませる場合も測ります。
#
# **実行する前に予想してみましょう。** 2回目には、驚きはどうなるでしょうか。ビットはどうなるでしょうか。また、別の一節の後ではどうでしょうか。
#
# 出力の first は1回目、second は2回目、after another は別の一節を読んだ後の、ビットと驚きの平均です。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
twice = trials.read_twice(model, files)
for name, (costs, surprised) in twice.items():
    means = f"{costs.mean():.2f} bits   |u| {surprised.mean():.2f}"
    print(f"{name:14} {means}")
(_, u1), (bits2, u2), (bits3, u3) = twice.values()
cheaper = (bits2 < bits3).sum()
print(f"second cheaper than after another: {cheaper} of {len(files)} files")

# %% [markdown] lang="en"
# Compared with the first reading, the surprise falls and the bits *rise*. Both comparisons are wrong: at the second
# reading more had been written than at the first, whatever it was. The control says what comes of having read *this*.
# Of the fall of the surprise about half comes after any other passage, too. And the bits: the second reading is a
# little cheaper than it would be after another passage, in nearly every file, by some hundredths of a bit.
#
# So a passage that is repeated is known, a little, and it takes a control to see it. A surprise that falls is by itself
# no proof.

# %% [markdown] lang="ja" en="05938388"
# 1回目と比べると、驚きは下がり、ビットは**上がります**。しかし、この比べ方は、どちらも適切ではありません。2回目には、何であれ、1回目より多くのものが書き込まれているからです。
# **この一節**を読んだことの効果は、別の一節の後と比べればわかります。驚きが下がった分の半分ほどは、別の一節の後でも下がります。
# そしてビットは、ほとんどのファイルで、別の一節の後よりも、100分の数ビットだけ少なくなっています。
#
# つまり、もう一度読んだ一節のことを、メモリは少しだけ知っていて、それは、比べる相手を選んではじめて見えます。驚きが下がったというだけでは、知っている証拠になりません。

# %%
first_letters, inside_words, _ = kinds.values()
assert first_letters[0] > 1.6 * inside_words[0]
assert first_letters[1] < 1.3 * inside_words[1]
fall = (u1 - u2).mean()
assert fall > 0.2
assert 0.3 * fall < (u1 - u3).mean() < 0.8 * fall
assert cheaper > 0.7 * len(files)
assert 0 < (bits3 - bits2).mean() < 0.15

# %% [markdown] lang="en"
# ### Exercise 3: predict where it is dear
#
# From the text alone, without the model: which bytes cost it most? `guess(text, n)` names `n` places, a tenth of the
# text, of passages that it has not seen; `text` has one character for each byte. The check lets the model read them and
# counts how many of the `n` dearest bytes you named. The first letters of words find more than twice what chance does.
# Find a tenth more than they.

# %% [markdown] lang="ja" en="987f589e"
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
# you bet on if you knew nothing about a place but how often each character stands in the text? And what changes if it
# is a word's first?
#
# </details>

# %% [markdown] lang="ja" en="f6c4127b"
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
# A language model can go on from where it is. It does so from its state, and that does not grow: the next byte costs as
# much after a megabyte as after a line (lesson 09).

# %% [markdown] lang="ja" en="eda93198"
# ## 6. 続きを書かせる
#
# 言語モデルは、読み終えたところから続きを書けます。続きは状態だけから書かれ、状態は大きくなりません。
# 次の1バイトにかかる計算は、1メガバイト読んだ後でも、1行読んだ後でも同じです（レッスン09）。
#
# 次の出力の ⟦ と ⟧ の間が、モデルの書いた続きです。その次の出力は、読んだバイト数と、状態を表す数値の個数（numbers in the state）です。

# %% tags=["nbval-ignore-output"]
prompt = page[None, :3072].long()
state = text_measures.read(model, prompt[:, :-1])
made, _ = model.generate(prompt[:, -1:], 300, state, temperature=0.7, seed=0)
print(bytes(prompt[0, -200:].tolist()).decode(), end="")
print("⟦" + bytes(made[0, 1:].tolist()).decode(errors="replace") + "⟧")

# %%
for tokens in (1024, 8192):
    state = text_measures.read(model, page[None, :tokens])
    size = sum(tensor.numel() for tensor in state.tensors().values())
    print(f"after {tokens:,} bytes: {size:,} numbers in the state")

# %% [markdown] lang="en"
# It has learned the look of Python, some of its words, and none of its sense: half a million parameters, 6.5 million
# bytes read.
#
# ### Through Hugging Face
#
# The same weights in the class that `transformers` knows (it needs the extra `hf`): the same logits, `generate`,
# `save_pretrained`, and a cache that is this library's state.

# %% [markdown] lang="ja" en="e9054364"
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
# `python -m titans.recipes text --file my_novel.txt` trains all of this on a text of yours (any UTF-8, some hundred
# thousand bytes at least; the last eighth of each file is held out) and prints the same figures. `--runs mac --seeds 0`
# does one model, which takes about ten minutes. Interrupted, it goes on from where it was. The checkpoint lands in
# `checkpoints/text/`, and `load_checkpoint` reads it.

# %% [markdown] lang="ja" en="97ffd8aa"
# ## 7. 自分のテキストで
#
# `python -m titans.recipes text --file my_novel.txt` を実行すると、これらのモデルすべてを手元のテキストで訓練し、同じ数値を表示します。
# テキストは UTF-8 なら何でもかまいませんが、少なくとも数十万バイトは必要で、各ファイルの最後の8分の1が取り置かれます。
# `--runs mac --seeds 0` を付けると、モデル1つだけになり、10分ほどで終わります。
# 途中で止めても、次は続きから始まります。チェックポイントは `checkpoints/text/` に保存され、`load_checkpoint` で読み込めます。

# %% [markdown] lang="en"
# ## Summary
#
# - Bits per byte are $-\log_2$ of the chances given to what came. Compare models at the same place of the same files.
# - A memory that has only seen 512 bytes has not learned to let go: carried further, what it wrote piles up, and it
#   falls apart. Pulled to $M_0$ now and then, or begun anew, it is the best of all models here behind the first
#   thousand bytes.
# - At equal steps the memory wins, by about a tenth of a bit. At equal time the MAC that was trained on stretches draws
#   with attention.
# - On this text, at this size, the memory holds the last line or two, and little from before. That is not the
#   forgetting gate's doing: the MAC that hardly forgets reaches no further.
# - When a passage is repeated the memory's surprise falls, but half as much after any other passage. What it knows of
#   the passage shows against that control alone: some hundredths of a bit.
# - The paper's models have hundreds of times as many parameters, and read far more. What a memory does for them, these
#   cannot tell.
#
# ## References
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663), section 5 for its language models.

# %% [markdown] lang="ja" en="2f2cfe85"
# ## まとめ
#
# - 1バイト当たりのビット数は、実際に来たものに与えた確率の $-\log_2$ です。モデルは、同じファイルの同じ場所で比べます。
# - 512バイトまでしか見ていないメモリは、手放すことを学んでいません。その先まで引き継ぐと、書いたものがたまって崩れます。
#   ときどき $M_0$ に近づけるか、リセットすれば、最初の1,000バイトほどより先では、ここでのどのモデルよりもよくなります。
# - ステップ数が同じなら、メモリが約0.1ビット勝ちます。時間が同じなら、長く続けて読んで訓練した MAC は、アテンションと引き分けます。
# - このテキストと、この大きさのモデルでは、メモリに入っているのは最後の1、2行で、それより前のものはわずかです。忘却のゲートのせいではありません。
#   ほとんど忘れない MAC でも、もっと前までは届かないからです。
# - 同じ一節を繰り返すと、メモリの驚きは下がりますが、その半分ほどは、別の一節の後でも下がります。
#   その一節を知っていることは、それと比べてはじめてわかり、効果は100分の数ビットです。
# - 論文のモデルは、パラメータが数百倍で、読んだ量もはるかに多くなっています。そこでメモリが何をするかは、ここからはわかりません。
#
# ## 参考文献
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663)。言語モデルは5節。

# %% tags=["nbval-ignore-output"]
progress()
