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

# %% [markdown] lang="ja"
# # 10 · 言語モデル
#
# 「Titans, step by step」（一歩ずつ学ぶ Titans）のレッスン10です。読むのに約45分、演習も解くと約80分、コードの実行に約1分かかります。
# セルは上から順に実行してください。
#
# **このレッスンで学ぶこと**
#
# - 言語モデル（language model）の性能を、1バイト当たりのビット数と、文書の中の位置ごとに測る方法。
# - 状態（state）を区間から区間へ引き継ぎ、長く続くように、本物の文章でメモリ（memory）を訓練する方法。
# - メモリ、メモリなし、同じ計算量のウィンドウ（window）のうち、どこでどれが勝つか。ステップ数が同じ場合と、時間が同じ場合。
# - 言語モデルのメモリに何が、どれだけの間入っているか。入っているものを1つずつ取り除いて調べます。
# - 文章の上の驚き（surprise）を読み取り、状態から文章を生成し、Hugging Face のクラスからモデルを使う方法。
#
# **必要な知識**：レッスン07（MAC）とレッスン09（状態）。

# %%
from dataclasses import replace

import torch

from titans import TitansLM
from titans.checkpoints import load_checkpoint
from titans.corpus import Text, bits
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
# So far we made up what was read: pairs, noise, needles. A language model reads text. Which text is on your machine already, is long,
# and may be read by anybody? The source of Python's own standard library. It is some millions of bytes, and it is full of what a
# memory should be good for: names that come back.
#
# We read it byte by byte. There are 256 tokens, and no tokeniser. One file in eight is *held out*: no model of this lesson has been
# trained on it. Which files they are is decided by a checksum of their names, so it is the same in every version of Python.

# %% [markdown] lang="ja"
# import に失敗するときは、この教材のパッケージがまだインストールされていないので、
# クローンしたフォルダーで `pip install -e .` を実行してください。
# Colab では、リポジトリをクローンし、`%cd` でそのフォルダーに入り、同じようにインストールしてから、上のセルを実行します。
# なお、PyPI で `titans` という名前のパッケージは別物です。
#
# ## 1. だれもが持っている文章
#
# ここまで読ませたのは、ペアや雑音や針など、作りものばかりでした。言語モデルが読むのは文章です。
# すでに手元にあって、長く、だれが読んでもよい文章とは何でしょうか。Python の標準ライブラリのソースコードです。
# 数百万バイトあり、同じ名前が何度も出てくるので、メモリの得意なはずのものがたくさん含まれています。
#
# これを1バイトずつ読みます。トークンは256種類で、トークナイザーはありません。
# 8つに1つのファイルは**取り置き**（held out）で、このレッスンのモデルは、どれもその訓練に使っていません。
# どのファイルを取り置くかは、名前のチェックサムで決めるので、Python のバージョンが違っても同じです。

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

# %% [markdown] lang="ja"
# モデルは、次のバイトのそれぞれに確率 $p$ を与えます。実際に来たバイトの代価は、$-\log_2 p$ **ビット**です。
# 確信があって正しければ0、五分五分だと思っていれば1、256バイトについて何も知らなければ8になります。
# 文章全体の平均が「1バイト当たりのビット数」（bits per byte）で、訓練で使う交差エントロピーの単位を変えたものです。
# これは大きさでもあります。よい圧縮プログラムなら、文章をその数のビットで保存できるからです。
#
# **実行する前に予想してみましょう。** ネットワークを使わずに、それぞれのバイトの頻度だけを知っているとき、1バイトは何ビットになるでしょうか。
# 直前のバイトも知っていたらどうでしょうか。また、まさにこのために作られた `zlib` では、どうでしょうか。
#
# 出力は上から、すべて同じ確率、頻度、直前のバイトから、の順で、最後の2つは圧縮プログラムです。

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
# `zlib` and `xz` know nothing of Python when they begin: all that they gain, they gain from what came back. That is
# a memory at work, and one that keeps everything. These are the numbers to beat.

# %% [markdown] lang="ja"
# `zlib` と `xz` は、始めるときには Python について何も知りません。得をするのは、前に出てきたものがまた出てきたときだけです。
# つまり、これも1つのメモリで、しかもすべてを残しておくメモリです。この数字が、これから越えるべき目標になります。

# %%
bits_exercise = exercises  # placeholder for exercise 1

# %% [markdown] lang="en"
# ## 2. Trained to last
#
# The model is small: a MAC with two layers of 128 features, segments of 64 bytes, and a memory in the second layer, one matrix. How do you train
# it? A file of 16,384 bytes is too long to go back through. So it is read in pieces of 512, and the state is **carried** from
# piece to piece, and **detached**: the numbers go on, the gradient stops.
#
# By hand, on two rows and pieces of 64 bytes, four in a row:

# %% [markdown] lang="ja"
# ## 2. 長く続くように訓練する
#
# モデルは小さな MAC です。128次元の層が2つで、セグメント（segment）は64バイト、メモリは2層目に1つ、行列です。
# どう訓練すればよいでしょうか。16,384バイトのファイルは、端から端まで逆伝播するには長すぎます。
# そこで、512バイトずつの区間に分けて読み、状態を区間から区間へ**引き継ぎ**ながら、**切り離します**（detach）。
# 数値は引き継がれますが、勾配（gradient）はそこで止まります。
#
# 2行、64バイトの区間4つで、手で書いてみましょう。

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
    optimizer.zero_grad()
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

# %% [markdown] lang="ja"
# レシピ `text` は、これを8行、1,600ステップで行います。ノートパソコンで数分です。
# 行ごとに、1、2、4、8、16区間のどれかの長さの範囲を読むので、どのステップにも、ファイルの始まりと、ずっと奥の場所の両方が含まれます。
#
# なぜ状態を引き継ぐのでしょうか。引き継がないとどうなるか、試してみましょう。
# レシピには、同じモデルを、512バイトの区間1つずつで、同じステップ数だけ訓練したものもあります。メモリのないモデルも、並べておきます。
#
# - 64バイトのセグメントの**アテンション**（attention）。ステップ数が同じものと、**時間**が同じもの（2.1倍のステップ数）。
# - **512のウィンドウ**。どのバイトからも、その前の512バイトが見えます。1ステップにかかる時間は、MAC と同じです。
#
# **実行する前に予想してみましょう。** 表は、取り置いたファイルの1バイト当たりのビット数で、最初の64バイト、256バイトまで、などに分けてあります。
# シードは3つで、中央値と、括弧の中に最も悪い値を示します。ファイルの始まりと終わりで、勝つのはそれぞれどれでしょうか。
# また、512バイトより長いものを一度も見なかった MAC は、どうなるでしょうか。

# %%
predict("...")

# %%
card = cards.card("text")
print(trials.table(card))

# %%
pictures.by_place(card)
