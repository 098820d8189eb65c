# %% [markdown] lang="en"
# # 09 · At test time
#
# *Titans, step by step.* About 40 minutes to read, 75 with the exercises; the code runs in about 20 seconds.
# Run the cells from top to bottom.
#
# **You will learn**
#
# - to watch a memory's weights while it reads, to ask it at any moment, and to freeze it;
# - where a fact is in the moment after it was told, and why freezing can lose it;
# - what surprise says about a trained model, and what it does not say;
# - to stream a thousand segments with a state of constant size, to keep the state in a file, and to back-propagate
#   through it.
#
# **You need** lesson 03: the update with $\theta$, $\eta$ and $\alpha$. The trained model is a MAC; of it you need to know
# that it reads and writes such a memory.

# %% [markdown] lang="ja" en="c824f1d6"
# # 09 · テスト時に起こること
#
# 「Titans, step by step」（一歩ずつ学ぶ Titans）のレッスン09です。読むのに約40分、演習も解くと約75分、コードの実行に約20秒かかります。
# セルは上から順に実行してください。
#
# **このレッスンで学ぶこと**
#
# - 読んでいる最中のメモリ（memory）の重み（weights）を眺め、好きな時点で問い合わせ、凍結する（freeze）方法。
# - 伝えられた直後の事実は、どこにあるのか。凍結すると失われることがあるのは、なぜか。
# - 学習済みのモデルで、驚き（surprise）からわかることと、わからないこと。
# - 大きさの変わらない状態（state）のまま、1,000セグメント（segment）のストリーム（stream）を読む方法。状態をファイルに保存する方法。
#   状態を通して誤差逆伝播（back-propagation）をする方法。
#
# **必要な知識**：レッスン03の内容、つまり $\theta$、$\eta$、$\alpha$ を使う更新。
# 学習済みのモデルには MAC を使いますが、このようなメモリを読み書きするモデルだと知っていれば十分です。

# %%
import tempfile
from pathlib import Path

import torch

from titans import ModelState, NeuralMemory
from titans.checkpoints import load_checkpoint
from titans.lesson import start
from titans.lesson.kit import watching
from titans.lesson.lesson_09 import bare_player, exercises, pictures, trials
from titans.lesson.lesson_09.mac_player import facts_and_noise, mac_player
from titans.observe import closed, edited_gates, observed
from titans.tasks import Needle, Recall
from titans.training import share_right

start()

# %% [markdown] lang="en"
# If the import fails, this course's package is not installed: run `pip install -e .` in the folder that you cloned
# (in Colab: clone the repository, go into its folder with `%cd`, install it there in the same way, then run the cell
# above). The package that PyPI calls `titans` is another one.
#
# ## 1. What still changes after training
#
# Training ends, the parameters stay as they are. In most models nothing else could change. Here something does: the
# memory's weights $M_t$ and the momentum $S_t$, which every token moves on,
#
# $$S_t = \eta_t S_{t-1} - \theta_t \nabla \ell(M_{t-1}; x_t), \qquad M_t = (1 - \alpha_t)\, M_{t-1} + S_t$$
#
# and which belong to one sequence. "At test time" means this: to run these two lines, and to read, $y_t = M_t(q_t)$,
# which changes nothing.
#
# A long sequence comes in pieces. What has to be handed from one piece to the next? Take the memory of one number from
# lesson 03, $\theta = 0.25$, $\eta = 0.5$, no forgetting. It reads the value 1 four times; each line below can be
# checked by hand.
#
# **Predict before you run.** The last two lines read two values, stop, and read two more. The first hands on $m$ and
# $s$, the second $m$ alone. Which of them ends where the whole ends?

# %% [markdown] lang="ja" en="62a85281"
# import に失敗するときは、この教材のパッケージがまだインストールされていません。
# クローンしたフォルダーで `pip install -e .` を実行してください。
# Colab では、リポジトリをクローンし、`%cd` でそのフォルダーに入り、同じようにインストールしてから、
# 上のセルを実行します。
# なお、PyPI で `titans` という名前のパッケージは別物です。
#
# ## 1. 訓練の後にも変わるもの
#
# 訓練（training）が終わると、パラメータはもう変わりません。たいていのモデルでは、ほかに変わるものはありません。
# ところが、ここにはあります。メモリの重み $M_t$ とモーメンタム（momentum）$S_t$ です。トークン（token）が来るたびに、
#
# $$S_t = \eta_t S_{t-1} - \theta_t \nabla \ell(M_{t-1}; x_t), \qquad M_t = (1 - \alpha_t)\, M_{t-1} + S_t$$
#
# に従って進みます。どちらも、1つの系列（sequence）に属します。
# **テスト時**（test time）にすることは、この2つの式の計算と、読み出し $y_t = M_t(q_t)$ です。読み出しは何も変えません。
#
# 長い系列は、いくつかに分かれて届きます。では、1つの部分から次の部分へ、何を引き継げばよいのでしょうか。
# レッスン03の「1つの数だけのメモリ」で考えます。$\theta = 0.25$、$\eta = 0.5$ で、忘却（forgetting）はありません。
# このメモリが、値1を4回読みます。どの行も、手で確かめられます。
#
# **実行する前に予想してみましょう。**
# 最後の2行では、値を2つ読んだところで止まり、それから残りの2つを読みます。
# そのうち1行目は $m$ と $s$ を、2行目は $m$ だけを引き継ぎます。全部を続けて読んだときと同じ値になるのは、どちらでしょうか。


# %%
def read_values(values, m=0.0, s=0.0):
    for value in values:
        s = 0.5 * s - 0.25 * 2 * (m - value)
        m = m + s
    return m, s


for count in (1, 2, 3, 4):
    print(f"after {count}: m, s =", read_values([1.0] * count))

m, s = read_values([1.0, 1.0])
print("in two pieces, m and s handed on:", read_values([1.0, 1.0], m, s)[0])
print("in two pieces, m alone:          ", read_values([1.0, 1.0], m)[0])
assert read_values([1.0, 1.0], m, s) == read_values([1.0] * 4)

# %% [markdown] lang="en"
# The state is not $M$ alone: what was surprising goes on writing, and $S$ is where that is kept. A layer of the library
# keeps two more things in its state: the weights at which the current chunk's gradients are taken with the place in
# it, and the few tokens that its convolutions still need (decision D10). With all of them, any split of a sequence
# gives the numbers of one call.
#
# ### Exercise 1: a stream in pieces
#
# `call(x, state)` is such a layer: it gives the answers $y$ to `x`, and the new state. For the first piece the state is
# `None`. Return the answers to all pieces, joined with `torch.cat(…, dim=1)`.

# %% [markdown] lang="ja" en="793e2e70"
# 状態は $M$ だけではありません。驚いたことは、その後もしばらく書き込まれ続けます。それを覚えているのが $S$ です。
# ライブラリの層（layer）の状態には、あと2つのものが入っています。
# 1つは、いまのチャンク（chunk）の勾配（gradient）をとる重みと、チャンクの中の位置です。
# もう1つは、畳み込み（convolution）がまだ必要とする数トークンです（決定D10）。
# これらがすべてそろっていれば、系列をどこで分けても、1回で読んだときと同じ数値になります。
#
# ### 演習1：分かれて届くストリーム
#
# `call(x, state)` は、そのような層です。`x` への答え $y$ と、新しい状態を返します。最初の部分では、状態は `None` です。
# すべての部分への答えを、`torch.cat(…, dim=1)` でつないで返してください。


# %%
def stream(call, pieces):
    return ...  # the answers to all pieces, joined


exercises.STREAM.check(stream)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# `y, state = call(piece, state)`: the name `state` is overwritten with the newest one.
#
# </details>

# %% [markdown] lang="ja" en="fd6db070"
# <details><summary>ヒント</summary>
#
# `y, state = call(piece, state)` と書けば、`state` はいつも最新の状態で上書きされます。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def stream(call, pieces):
#     state = None
#     answers = []
#     for piece in pieces:
#         y, state = call(piece, state)
#         answers.append(y)
#     return torch.cat(answers, dim=1)
# ```
#
# </details>

# %% [markdown] lang="en"
# ## 2. The memory player
#
# First a memory so small that you can read it. It hears who drinks what: 40 tokens, each a person (the key) and a drink
# (the value), with $\theta = 0.2$, $\eta = 0.5$, $\alpha = 0.02$ and a matrix of 5 drinks × 7 features.
#
# - **readings 1 to 3**: Ana → tea, Ben → coffee, Cleo → milk, Dan → juice, three times over;
# - **small talk**: random values under keys of its own;
# - **Anna**: a new person whose key sounds like Ana's ($k_\text{Anna} = 0.6\, k_\text{Ana} + 0.8\,$ times a new feature),
#   → cola, twice;
# - **Ben** changes to tea, twice.
#
# Every person but Anna has one column of the matrix. So you can read the memory: a red field says "this drink".
#
# **Predict before you run.** We freeze the memory after reading 1: from token 4 on nothing is written any more. Each of
# the four was told once, Ana first and Dan last, and forgetting is slow. Whose drink does the frozen memory know best?

# %% [markdown] lang="ja" en="42dcb6d8"
# ## 2. メモリプレーヤー
#
# まずは、中身を全部読めるほど小さなメモリです。誰が何を飲むかを聞いていきます。
# 全部で40トークンあり、1つのトークンは、人をキー（key）、飲み物を値（value）とするペア（pair）です。
# $\theta = 0.2$、$\eta = 0.5$、$\alpha = 0.02$ で、メモリは5種類の飲み物 × 7成分の行列です。
#
# - **1〜3回目の読み**（reading）：Ana → tea、Ben → coffee、Cleo → milk、Dan → juice を3回くり返します。
# - **雑談**（small talk）：専用のキーに、ランダムな値が付きます。
# - **Anna**：新しい人です。キーが Ana と似ています
#   （$k_\text{Anna} = 0.6\, k_\text{Ana} + 0.8\,$ × 新しい成分）。→ cola を2回伝えます。
# - **Ben** の飲み物が tea に変わります。これを2回伝えます。
#
# Anna を除くと、1人に1列が割り当てられています。ですから、メモリをそのまま読めます。赤いところが「この飲み物」です。
#
# **実行する前に予想してみましょう。**
# 1回目の読みの後で、メモリを凍結します。トークン4からは、何も書き込まれません。
# 4人のことは、1回ずつ伝えました。最初が Ana、最後が Dan で、忘却はゆっくりです。
# 凍結したメモリがいちばんよく知っているのは、誰の飲み物でしょうか。

# %%
frozen = bare_player.record(False, False, 4)
for person, drink in bare_player.PASSAGE:
    asked = bare_player.PEOPLE.index(person)
    answer = frozen.answers[-1, asked, bare_player.DRINKS.index(drink)]
    print(f"asked for {person:4}: {drink} {answer:.3f}")

# %% [markdown] lang="en"
# Ana's, the oldest. Check Dan's by hand: one write is $2\theta = 0.4$ of the value, and there it was stopped. Ana's
# momentum had three more tokens to act: $0.4 \cdot 0.98 + 0.2 = 0.592$, and on. Most of a fact that was told just now is
# in $S$, not yet in $M$. Remember this for the trained model.
#
# Now play. Left is the memory as it is, right the same stream with what you switch off. `probe` chooses whom you ask
# for; the memory is asked after each token, which changes nothing. (Where no kernel runs you see three moments below one
# another.)
#
# 1. Without momentum: how does the surprise fall from reading to reading? And with neither momentum nor forgetting, what
#    are the three values, by hand?
# 2. Probe Ana, and step over tokens 17 to 20. Which columns does the write of token 18 change? Does freezing before Anna
#    help?
# 3. Probe Ben from token 26 on. Who overshoots, the memory with or without momentum? Does it come back?
# 4. What does forgetting cost Cleo, who is never mentioned after token 10?

# %% [markdown] lang="ja" en="895d4f84"
# いちばん先に伝えた、Ana の飲み物です。Dan の値は、手で確かめられます。1回の書き込みは値の $2\theta = 0.4$ 倍で、そこで止められました。
# Ana については、モーメンタムがさらに3トークンの間、働きました。
# $0.4 \cdot 0.98 + 0.2 = 0.592$、というように続きます。
# 伝えられたばかりの事実は、大部分が $S$ の中にあり、まだ $M$ には入っていません。
# このことは、後で学習済みのモデルを見るときまで覚えておいてください。
#
# では、再生してみましょう。左はそのままのメモリ、右は、同じストリームを、何かを切って読ませたメモリです。
# `probe` では、誰についてたずねるかを選びます。メモリには、どのトークンの後でもたずねています。たずねても何も変わりません。
# スイッチは、「no momentum」がモーメンタムなし、「no forgetting」が忘却なし、
# 「freeze」が書き込みを凍結する時点です（never は凍結しない）。
# 上の段は、左から、メモリ（memory）、モーメンタム（momentum）、そのトークン自身の書き込み（write）です。
# 中央のグラフは驚き（surprise）、左下は「最後に伝えられた値をどれだけ強く答えるか」、
# 右下（now）は、その時点での答えの全部です。
# （カーネルが動いていないときは、3つの時点が上から順に並びます。）
#
# 1. モーメンタムがないと、驚きは読むたびにどう下がりますか。
#    モーメンタムも忘却もないとき、3つの値はいくつですか。手で計算してください。
# 2. probe を Ana にして、トークン17から20まで1つずつ進めます。トークン18の書き込みで変わるのは、どの列ですか。
#    Anna の前で凍結すれば、防げますか。
# 3. probe を Ben にして、トークン26から見ていきます。行き過ぎるのは、モーメンタムのあるほうですか、ないほうですか。
#    その後、戻ってきますか。
# 4. Cleo は、トークン10の後、一度も出てきません。忘却のために、どれだけ失いますか。

# %%
player = bare_player.bare_player()
player

# %% [markdown] lang="en"
# <details><summary>Answers</summary>
#
# 1. 2, then about 1.2, then about 0.8. With neither: every write takes away $2\theta = 0.4$ of the error, so 2, 1.2 and
#    0.72. With momentum it falls faster: 2, 0.57, 0.18.
# 2. Two columns, Ana's and Anna's own: the write is an outer product with Anna's key. Ana's tea goes down and cola comes
#    up in its place. A memory frozen before Anna keeps Ana's tea, and never learns about Anna.
# 3. The one with momentum goes beyond 1 at token 28, although Ben was last mentioned at 27. It comes back by forgetting
#    alone, since no token corrects it.
# 4. It keeps $0.98^n$ after $n$ tokens: from 0.94 at token 11 to 0.55 at the end.
#
# </details>
#
# ## 3. One write of a trained memory, by hand
#
# Now a memory inside a trained model. `recall-live/mac` is a MAC of one layer that learned a game: six pairs of a key and
# a value are told (`k0 v28 k23 v1 …`), noise follows, and each key is asked for. Its memory is one matrix of 64 × 64,
# its segments and chunks are 16 tokens long, so it cannot look the answer up in its attention.
#
# The layer makes $q$, $k$, $v$ and the gates from its input. We let it read 14 tokens, and do the last write ourselves.

# %% [markdown] lang="ja" en="5fd62662"
# <details><summary>答え</summary>
#
# 1. 2、約1.2、約0.8と下がります。どちらもなければ、1回書くごとに誤差が $2\theta = 0.4$ の割合で減るので、
#    2、1.2、0.72です。モーメンタムがあると、もっと速く、2、0.57、0.18と下がります。
# 2. 2つの列、Ana の列と Anna 自身の列です。書き込みは Anna のキーとの外積（outer product）だからです。
#    Ana の tea は下がり、代わりに cola が現れます。Anna の前で凍結したメモリは、Ana の tea を保ちます。
#    ただし、Anna については何も学びません。
# 3. モーメンタムのあるほうが、トークン28で1を超えます。Ben が最後に出てきたのはトークン27なのに、です。
#    修正するトークンがないので、忘却の分だけ戻ります。
# 4. $n$ トークンの後に残るのは $0.98^n$ です。トークン11での0.94から、最後には0.55になります。
#
# </details>
#
# ## 3. 学習済みのメモリの書き込みを、手で1回
#
# 次は、学習済みのモデルの中にあるメモリです。`recall-live/mac` は、1層の MAC で、次のゲームを学習しています。
# まず、キーと値の6つのペアが伝えられます（`k0 v28 k23 v1 …`）。続いて雑音（noise）が流れ、その後で、各キーについてたずねられます。
# メモリは64 × 64の行列1つです。
# セグメントもチャンクも16トークンなので、アテンション（attention）で答えを調べることはできません。
#
# 層は、入力から $q$、$k$、$v$ とゲート（gate）を作ります。
# 14トークンを読ませて、最後の書き込みを自分で計算してみましょう。

# %%
torch.set_grad_enabled(False)
model, _, _ = load_checkpoint("recall-live/mac")
one, _, _ = facts_and_noise()  # facts, noise, facts, noise, …
memory = watching.memory_of(model)
state = None
with observed(memory) as calls:  # keeps what the memory reads and writes
    for t in range(14):
        state = model(one[:, t : t + 1], state).state
before, after = calls[-1].before, calls[-1].after
print("M_t:", list(after.weights[0].shape), end="  ")
print("place in chunk:", after.place_in_chunk)

# %%
_, k, v, gates = calls[-1].tokens
k, v = k[0, 0, 0], v[0, 0, 0]
theta, eta, alpha = (gate[0, 0, 0, 0] for gate in gates)
M, S = before.weights[0][0, 0], before.momentum[0][0, 0]
start_of_chunk = before.chunk_weights[0][0, 0]  # decision D1

u = torch.outer(2 * (start_of_chunk @ k - v), k)
S = eta * S - theta * u
M = (1 - alpha) * M + S

for mine, library in ((M, after.weights), (S, after.momentum)):
    same = torch.allclose(mine, library[0][0, 0], atol=1e-5)
    print("equal to the library's:", same)
    assert same

# %% [markdown] lang="en"
# The lines of lesson 03, and they are what happens in a trained model at every token. (Its surprise is at
# most `max_surprise`, decision D12, which these tokens do not reach.)
#
# ## 4. The player inside a trained model
#
# **Predict before you run.** A copy of the model stops writing right after the last fact. From then on nothing can
# disturb what is in its memory. 64 sequences are told six pairs each, and after 36 tokens of noise we ask for every
# pair. Does freezing help the answers, harm them, or change nothing?

# %% [markdown] lang="ja" en="4c50a7da"
# レッスン03と同じ数行です。学習済みのモデルの中でも、トークンごとにこれが起きています。
# （驚きには上限 `max_surprise` がありますが（決定D12）、ここのトークンでは上限に届きません。）
#
# ## 4. 学習済みのモデルの中のプレーヤー
#
# **実行する前に予想してみましょう。**
# モデルのコピーを、最後の事実の直後に凍結し、書き込みを止めます。そこから先は、メモリの中身が乱されることはありません。
# 64本の系列に6つずつペアを伝え、雑音を36トークン流した後で、すべてのペアについてたずねます。
# 凍結すると、答えはよくなるでしょうか、悪くなるでしょうか、それとも変わらないでしょうか。
# 出力の各行は、凍結した時点（frozen from token）と、1番目から6番目までのペアの正解率です。

# %% tags=["nbval-ignore-output"]
tokens, keys, values = facts_and_noise(rows=64)
still = closed(model)
known = {}
for freeze in (12, 13, 14, 16, 48):
    state = model(tokens[:, :freeze]).state
    if freeze < 48:
        state = still(tokens[:, freeze:48], state).state
    known[freeze] = watching.share_known(still, state, keys, values)
    shares = "  ".join(f"{share:4.0%}" for share in known[freeze])
    print(f"frozen from token {freeze}: {shares}")
assert min(known[12][:4]) > 0.9
assert known[12][-1] < 0.2  # the last pair is lost
assert min(known[16]) > 0.9  # four tokens later it is there
assert min(known[48]) > 0.9  # and stays, if writing goes on

# %% [markdown] lang="en"
# Freezing right after the last fact loses that fact, almost entirely: it is answered about as rarely as by a guess. Four
# tokens of noise later it is there. Nobody repeated it; those four tokens only gave the momentum time. This model learned
# a large $\eta$ where facts are told, so a write arrives over several tokens. What you saw with Dan's juice is how a
# trained model works.
#
# Two practical rules follow. A state to be kept must hold $S$, not only $M$. And who stops writing to protect a memory
# should let it come to rest first.
#
# Watch it happen. The bars and the curve show the chance that the model gives to the right value, when a copy of it is
# asked at that moment. Try these:
#
# 1. Probe the last pair, tokens 9 to 16, with and without momentum on the right. Who knows the pair first?
# 2. What do the maps of $M_t$ look like between tokens 48 and 96? Do they go back to empty?
# 3. Look at the surprise. When is it large, when small? Is it small where the model knows the answers?

# %% [markdown] lang="ja" en="fe45e455"
# 最後の事実の直後に凍結すると、その事実がほとんど失われました。正解率は、当てずっぽうと同じくらいです。
# 雑音が4トークン流れた後なら、残っています。誰もくり返してはいません。4トークンの間に、モーメンタムが働いたのです。
# このモデルは、事実が伝えられるところで $\eta$ を大きくすることを学習しました。
# そのため、1回の書き込みが、何トークンもかけて届きます。
# Dan の juice で見たことが、学習済みのモデルの中でも起きているのです。
#
# ここから、実用上の心得が2つ得られます。保存する状態には、$M$ だけでなく $S$ も入れること。
# そして、メモリを守るために書き込みを止めるなら、メモリが落ち着くのを待ってから止めることです。
#
# その様子を眺めてみましょう。棒グラフと曲線（chance）は、その時点でモデルのコピーにたずねたときの、正しい値の確率です。
# 図の「facts」は事実、「noise」は雑音、「the same facts」は同じ事実のくり返し、「questions」は質問です。
# 凍結の「right after the facts」は事実の直後、「4 tokens later」はその4トークン後です。
#
# 1. probe を最後のペアにして、トークン9から16までを見ます。右はモーメンタムあり、なしの両方で試してください。
#    先にペアを答えられるようになるのは、どちらですか。
# 2. トークン48から96までの間、$M_t$ の図はどうなりますか。空に戻りますか。
# 3. 驚きを見てください。大きいのはいつで、小さいのはいつですか。モデルが答えを知っているところで、小さいですか。

# %%
inside = mac_player()
inside

# %% [markdown] lang="en"
# <details><summary>Answers</summary>
#
# 1. The memory without momentum: it knows the pair with the token that tells it, the other one token later and more
#    surely after that. Momentum costs speed here; what it buys is not seen here.
# 2. They do not. A pattern of rows and columns grows during the facts and the tokens after them, and most of it stays.
#    This model has learned hardly to forget ($\alpha$ is below 0.01 at all tokens here).
# 3. That is the next section.
#
# </details>
#
# ## 5. Does surprise fall when a passage is repeated?
#
# For the small memory it does; you saw 2, 0.57 and 0.18. For the trained one, take the mean over the 64 sequences, each
# with its own facts. They are told at tokens 0 to 11 and once more at 48 to 59.
#
# **Predict before you run.** At token 47 the model answers all six pairs. How large is its surprise when it hears them
# again?

# %% [markdown] lang="ja" en="276c0222"
# <details><summary>答え</summary>
#
# 1. モーメンタムのないほうです。ペアを伝えたトークンで、すぐに答えられます。
#    あるほうは、1トークン後に答えられるようになり、その後は、こちらのほうが確かです。
#    モーメンタムは、速さと引き換えに何かを得ているはずですが、それが何かは、ここでは見えません。
# 2. 戻りません。事実の間と、その後のトークンで、行と列の模様ができ、大部分がそのまま残ります。
#    このモデルは、ほとんど忘れないことを学習しました（ここでは、どのトークンでも $\alpha$ は0.01未満です）。
# 3. 次の節で扱います。
#
# </details>
#
# ## 5. 同じ文章をくり返すと、驚きは減るか
#
# 小さなメモリでは減ります。2、0.57、0.18と下がるのを見ました。
# 学習済みのメモリについては、事実がそれぞれ違う64本の系列で、平均をとります。
# 事実は、トークン0〜11で伝えられ、48〜59でもう一度伝えられます。
#
# **実行する前に予想してみましょう。**
# トークン47の時点で、モデルは6つのペア全部に答えられます。それをもう一度聞いたとき、驚きはどれくらいでしょうか。

# %%
surprise = trials.mean_surprise(model, tokens)
first, again = surprise[:12].mean(), surprise[48:60].mean()
early, late = surprise[16:32].mean(), surprise[32:48].mean()
print("told again, as surprising as at first:", bool(again > 0.9 * first))
print("later noise, less than half of early: ", bool(late < 0.5 * early))
assert again > 0.9 * first
assert late < 0.5 * early
pictures.told_twice(surprise)

# %% [markdown] lang="en"
# Noise becomes less surprising from one chunk to the next (the dotted lines are chunk borders, where the weights for
# gradients move). The facts do not: told again, they surprise the memory as much as the first time, **although the model
# answers every one of them**.
#
# How can it answer right and be surprised? Surprise is measured on $\lVert M(k) - v \rVert^2$, and that is small only if
# $M(k)$ has the *length* of $v$ too. But training rewarded answers, not small surprise, and what is read passes through a
# normalisation before anyone uses it. Only its direction counts.
#
# If that is the reason, then a memory whose weights are all a hundred times too large should answer as well.
#
# **Predict before you run.** Multiply $M$ and $S$ by 0.01, by 10, by 100, and ask. And by 0?

# %% [markdown] lang="ja" en="d78eff62"
# 雑音には、次のチャンクに進むと、あまり驚かなくなります（点線はチャンクの境目です。そこで、勾配をとる重みが新しくなります）。
# ところが、事実ではそうなりません。もう一度伝えられると、1回目と同じだけ驚きます。
# **モデルは、どの事実にも正しく答えられるのに**、です。
#
# 正しく答えられるのに驚くのは、なぜでしょうか。驚きは $\lVert M(k) - v \rVert^2$ で測ります。
# これが小さくなるのは、$M(k)$ の**長さ**も $v$ と合っているときだけです。
# ところが、訓練で求められたのは、答えの正しさで、驚きの小ささではありません。
# しかも、読み出したものは、使われる前に正規化されます。大事なのは向きだけなのです。
#
# もしこれが理由なら、重みがどれも100倍になったメモリでも、同じように答えられるはずです。
#
# **実行する前に予想してみましょう。**
# $M$ と $S$ を0.01倍、10倍、100倍にしてからたずねます。どうなるでしょうか。0倍ではどうでしょうか。

# %% tags=["nbval-ignore-output"]
state = model(tokens[:, :48]).state
for factor in (0.0, 0.01, 1.0, 10.0, 100.0):
    changed = trials.scaled(state, factor)
    right = sum(watching.share_known(model, changed, keys, values)) / 6
    print(f"M and S times {factor:6}: {right:.1%} right")
    assert right < 0.1 if factor == 0 else right > 0.95

# %% [markdown] lang="en"
# So does surprise fall when a passage is repeated? In the memory's own terms, yes, if gradients are taken at weights that
# have moved since (lesson 03 shows what happens otherwise). In a trained model surprise is what drives writing, not a
# gauge of what the model knows. To find out what it knows, ask it.
#
# ## 6. A thousand segments
#
# The model was trained on sequences of at most 80 tokens. Now 8 sequences are told six pairs each, and then noise
# passes: up to 16,384 tokens, 1,024 segments. States never change in place, so one long stream can be asked at many moments
# on its way. Beside it a model that was trained in the same way without a memory.
#
# **Predict before you run.** After how many tokens is half of the answers lost?

# %% [markdown] lang="ja" en="7fb15f10"
# では、同じ文章をくり返すと、驚きは減るのでしょうか。
# メモリ自身の物差しでは、減ります。ただし、その間に動いた重みで勾配をとる場合です（そうでない場合は、レッスン03で見ました）。
# 学習済みのモデルでは、驚きは書き込みを動かす力であって、モデルが何を知っているかを示す計器ではありません。
# 何を知っているかは、たずねてみればわかります。
#
# ## 6. 1,000のセグメント
#
# このモデルの訓練に使った系列は、長くても80トークンです。
# ここでは、8本の系列に6つずつペアを伝え、その後に雑音を流します。最大で16,384トークン、1,024セグメントです。
# 状態は決して書き換えられません（呼び出しのたびに、新しい状態が返ります）。
# ですから、1本の長いストリームの途中で、何度でもたずねることができます。
# 比較のため、メモリなしで同じように訓練したモデルにも読ませます。
#
# **実行する前に予想してみましょう。** 答えの半分が失われるのは、何トークンの後でしょうか。
# 図の左は、伝えてからたずねるまでのトークン数に対する正解率です。
# 「without its memory」はメモリなし、「a guess」は当てずっぽうです。右は、引き継ぐ状態の大きさ（バイト）です。

# %%
other, _, _ = load_checkpoint("recall-live/attention")
task, random = Recall(), torch.Generator().manual_seed(9)
told = task.tell(8, random).tokens
pairs = told[:, ::2], told[:, 1::2]  # keys, values
moments = (64, 256, 1024, 4096, 16384)
states, passed, rows = [model(told).state, other(told).state], 0, []
while passed < moments[-1]:
    noise = task.pass_time(8, 64, random)
    states = [
        model(noise, states[0]).state,
        other(noise, states[1]).state,
    ]
    passed += 64
    if passed in moments:
        rows.append((passed, states))

# %% tags=["nbval-ignore-output"]
shares = [
    [sum(watching.share_known(m, s[which], *pairs)) / 6 for _, s in rows]
    for which, m in enumerate((model, other))
]
print("right with memory:   ", [f"{share:.0%}" for share in shares[0]])
print("right without memory:", [f"{share:.0%}" for share in shares[1]])
assert min(shares[0]) > 0.9
assert max(shares[1]) < 0.2

# %%
sizes = [trials.state_bytes(s[0]) // 8 for _, s in rows]
print("bytes of state, one sequence:", sizes)
assert len(set(sizes)) == 1
pictures.streaming(moments, *shares, sizes)

# %% [markdown] lang="en"
# Nearly all facts are still there after 200 times the longest sequence of training. The update does not know how long a stream
# is; the model learned to write facts, to leave them alone while noise passes, and hardly to forget. This is noise of the kind
# that it was trained on. Whether other content would overwrite the facts is another question, and no plot here answers it.
#
# The state has the same number of bytes throughout. (All moments above are 12 tokens into a segment. Within a segment
# the keys and values of up to 16 tokens come and go.)
#
# ### What pieces can change
#
# By the equations, any split of a stream gives the same numbers. But float32 rounds, and a memory can enlarge what rounding
# leaves.
#
# **Predict before you run.** The model reads one token 1,024 times, in one call and in pieces of 37. First it is a token of
# noise, then a key. How far apart are the answers? In the third line the steps are gentle: $\theta$ is $(1 - \eta)/16$ at most,
# so that the 16 steps of a chunk, with all that momentum makes of them, add up to no more than 1.

# %% [markdown] lang="ja" en="bdd7c4a7"
# ほとんどの事実は、訓練で使った最も長い系列の200倍の後にも残っています。
# 更新式は、ストリームの長さを知りません。
# モデルが学習したのは、事実を書き込み、雑音の間はそれに触れず、ほとんど忘れないことです。
# ただし、これは訓練のときと同じ種類の雑音です。
# 別の内容が事実を上書きしてしまうかどうかは別の問題で、上の図からはわかりません。
#
# 状態のバイト数は、ずっと同じです。
# （上で調べた時点は、どれも、セグメントの12トークン目を読み終えたところです。
# セグメントの中では、最大16トークン分のキーと値が増えたり消えたりします。）
#
# ### 分けて読むと変わりうるもの
#
# 数式のうえでは、ストリームをどう分けて読んでも、同じ数値になります。
# けれども float32 では丸め誤差が出ますし、メモリがそれを大きくしてしまうことがあります。
#
# **実行する前に予想してみましょう。**
# 同じトークンを1,024回、1回の呼び出しで読んだ場合と、37トークンずつに分けて読んだ場合を比べます。
# 初めは雑音のトークン、次はキーのトークンです。答えはどれだけ違うでしょうか。
# 3行目では、ステップを小さく抑えます。$\theta$ を $(1 - \eta)/16$ 以下にするので、
# 1つのチャンクの16ステップは、モーメンタムの分を含めても、合計で1を超えません。


# %%
def gentle(gates):
    return gates._replace(theta=gates.theta.minimum((1 - gates.eta) / 16))


def apart(token):
    alike = torch.full((1, 1024), token)
    whole, state, parts = model(alike).logits, None, []
    for part in alike.split(37, dim=1):
        logits, _, state = model(part, state)
        parts.append(logits)
    difference = (torch.cat(parts, dim=1) - whole).abs().max()
    return difference / whole.abs().max(), state


# %% tags=["nbval-ignore-output"]
cuts = {"noise": apart(70), "a key": apart(0)}
with edited_gates(model, gentle):
    cuts["a key, gentle"] = apart(0)
    gentle_right = share_right(model, Recall(), 56)
for name, (apart_by, end) in cuts.items():
    size = end.layers[0].memory.weights[0].norm()
    print(f"{name:14}: {apart_by:.0e} of the largest logit; |M| = {size:.0f}")
print(f"right answers of the gentle memory: {gentle_right:.0%}")
assert cuts["noise"][0] < 1e-5 < 0.01 < cuts["a key"][0]
assert cuts["a key, gentle"][0] < 1e-5
assert gentle_right < 0.95

# %% [markdown] lang="en"
# With noise the pieces agree to a millionth. With the key they end about a whole logit apart, and neither is more right
# than the other. $M$ has grown far beyond its usual size: all 16 gradients of a chunk are taken at its start, where each
# asks for the whole correction, so that together they go too far, and the next chunk goes too far back. `max_surprise`
# (decision D12) keeps this finite; but what is answered then hangs on the last bit. Where the steps of a chunk cannot add
# up to more than the correction, the pieces agree again.
#
# The library does not bound the steps like that, because it costs answers where the model was trained: the last line.
# So mind the size of $M$ on text that is unlike the training's, and do not expect two cuts of such a stream to agree.
#
# ## 7. How much memory does it take?
#
# For each layer of the model and each sequence of a batch: $M_t$, $S_t$ and, inside a chunk, the weights that the chunk
# started with. Each head has a memory of its own, on dim / heads features.
#
# ### Exercise 2: count
#
# Return how many numbers these three are, for one layer. A memory of depth $L$ has $L$ matrices; hidden layers are
# `expansion` times as wide as a head has features. Depth 1 is one square matrix.

# %% [markdown] lang="ja" en="e0c6d46c"
# 雑音なら、分けて読んでも100万分の1の桁まで一致します。キーでは、答えがロジット1つ分ほど違ってしまい、どちらが正しいとも言えません。
# $M$ は、ふだんよりはるかに大きくなっています。チャンクの16個の勾配は、どれもチャンクの始まりで計算され、それぞれが修正の全体を求めます。
# そのため合計すると行き過ぎになり、次のチャンクでは反対側に、もっと行き過ぎます。`max_surprise`（決定D12）があるので有限にとどまりますが、
# 答えは最後の1ビットで変わってしまいます。1つのチャンクのステップの合計が修正の大きさを超えないようにすると、また一致します。
#
# このライブラリは、ステップをこのようには制限しません。最後の行のとおり、訓練した課題での正解が減るからです。
# 訓練とは似ていないテキストを読ませるときは $M$ の大きさに注意し、ストリームの分け方が違っても同じ答えになるとは期待しないでください。
#
# ## 7. メモリはどれだけ必要か
#
# モデルの層ごと、バッチ（batch）の系列ごとに必要なのは、$M_t$、$S_t$、そしてチャンクの途中ではチャンクの始まりの重みです。
# ヘッド（head）は、それぞれ自分のメモリを持ちます。1つのヘッドの次元は dim / heads です。
#
# ### 演習2：数える
#
# この3つに含まれる数値の個数を、1層について返してください。深さ（depth）$L$ のメモリには、行列が $L$ 個あります。
# 隠れ層の幅は、ヘッドの次元の `expansion` 倍です。深さ1なら、正方行列1つです。


# %%
def numbers_in_state(batch, heads, dim, depth, expansion):
    return ...


exercises.STATE_NUMBERS.check(numbers_in_state)

# %% [markdown] lang="en"
# <details><summary>Hint 1</summary>
#
# With $d$ = dim / heads the widths from bottom to top are $d$, then depth − 1 times $d \cdot$ expansion, then $d$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Sum the products of neighbouring widths, and multiply by batch, by heads and by 3.
#
# </details>

# %% [markdown] lang="ja" en="8f04e3e1"
# <details><summary>ヒント1</summary>
#
# $d$ = dim / heads とすると、幅は下から順に $d$、次に $d \cdot$ expansion が（深さ − 1）回、最後に $d$ です。
#
# </details>
#
# <details><summary>ヒント2</summary>
#
# 隣り合う幅の積を合計し、バッチの大きさ、ヘッドの数、3を掛けます。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def numbers_in_state(batch, heads, dim, depth, expansion):
#     d = dim // heads
#     widths = [d] + [d * expansion] * (depth - 1) + [d]
#     weights = sum(a * b for a, b in zip(widths, widths[1:]))
#     return 3 * batch * heads * weights
# ```
#
# </details>

# %% [markdown] lang="en"
# Attention keeps 2 · dim numbers per token and layer. At dim 64 one matrix memory is $3 \cdot 64 \cdot 64$ numbers, as
# much as the keys and values of 96 tokens. With the paper's larger form, depth 2 and expansion 4 with one head, the same
# layer is as large as 768 tokens. More for a short text, less for a long one; and it multiplies with the batch, as a
# cache does.

# %% [markdown] lang="ja" en="40f175bb"
# アテンションは、1トークン、1層につき 2 · dim 個の数値を保持します。
# dim が64のとき、行列のメモリ1つは $3 \cdot 64 \cdot 64$ 個で、96トークン分のキーと値にあたります。
# 論文のもっと大きな形、深さ2、拡大率（expansion）4で1ヘッドなら、同じ層が768トークン分になります。
# 短いテキストではアテンションより多く、長いテキストでは少なくなります。バッチの大きさに比例して増えるのは、アテンションのキャッシュと同じです。

# %%
for depth in (1, 2):
    layer = NeuralMemory(dim=64, depth=depth, expansion=4)
    _, inside_chunk = layer(torch.zeros(1, 1, 64))
    parts = ("weights", "momentum", "chunk_weights")
    numbers = sum(
        tensor.numel()
        for part in parts
        for tensor in getattr(inside_chunk, part)
    )
    print(f"depth {depth}: {numbers:,} numbers, as {numbers // 128} tokens")

# %% [markdown] lang="en"
# ## 8. The state as a file
#
# A state is a record of tensors, so it can be a file: read a book today, ask tomorrow, or let a hundred readers begin
# from the same page. The saved state is picked up by a new model, loaded anew from its checkpoint.

# %% [markdown] lang="ja" en="a2eb89e0"
# ## 8. ファイルとしての状態
#
# 状態はテンソルの集まりなので、ファイルにできます。今日読んだ本について、明日たずねる。
# 100人の読者が、同じページから読み始める。そのようなことができます。
# ここでは、保存した状態を、チェックポイントから読み込み直した新しいモデルで再開します。

# %%
asked = pairs[0][:, :1]
here = model(asked, states[0])
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "reader.safetensors"
    states[0].save(path)
    new_model, _, _ = load_checkpoint("recall-live/mac")
    there = new_model(asked, ModelState.load(path))
same = torch.equal(here.logits, there.logits)
print("the same logits, bit for bit:", same)
assert same
for name, tensor in here.state.tensors().items():
    assert torch.equal(tensor, there.state.tensors()[name])

# %% [markdown] lang="en"
# A state of another configuration is refused; the error says what differs:

# %% [markdown] lang="ja" en="d660634c"
# 別の設定のモデルの状態は、受け付けられません。エラーには、どこが違うかが書かれています。

# %% tags=["raises-exception"]
other(asked, states[0])

# %% [markdown] lang="en"
# ## 9. Back through a carried state
#
# A state is not only numbers. Unless you cut it, it is part of the graph: the loss of a later call can ask what an earlier
# call should have written. That is how a model can learn to write for a question that comes many calls later.
#
# By hand, with the memory of one number, no momentum: $m_t = (1 - \alpha - 2\theta)\, m_{t-1} + 2\theta\, v_t$. The first
# value enters with $2\theta$. How much of it is still felt later?
#
# ### Exercise 3: the gradient through the state
#
# Every token is a call of its own, and the state $m$ is handed on. Return $\partial m_n / \partial v_1$ after $n$ =
# `tokens` tokens.

# %% [markdown] lang="ja" en="1f0b01b5"
# ## 9. 引き継いだ状態をさかのぼる
#
# 状態は、ただの数値ではありません。切り離さないかぎり、計算グラフの一部です。
# 後の呼び出しの損失（loss）から、前の呼び出しで何を書けばよかったのかをたどれます。
# だからこそモデルは、ずっと後でたずねられることに備えて書き込むことを学習できるのです。
#
# 1つの数だけのメモリで、手で計算します。モーメンタムはありません。
# $m_t = (1 - \alpha - 2\theta)\, m_{t-1} + 2\theta\, v_t$ です。
# 最初の値は、$2\theta$ 倍で入ります。後になると、その影響はどれだけ残っているでしょうか。
#
# ### 演習3：状態を通る勾配
#
# トークンごとに1回の呼び出しとし、状態 $m$ を引き継ぎます。
# `tokens` トークン（$n$ とします）の後の $\partial m_n / \partial v_1$ を返してください。


# %%
def slope_of_first_value(theta, alpha, tokens):
    return ...


exercises.SLOPE.check(slope_of_first_value)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# Differentiate the recurrence once: at each later token the slope is multiplied by the same factor. How many later tokens
# are there?
#
# </details>

# %% [markdown] lang="ja" en="a8a5691e"
# <details><summary>ヒント</summary>
#
# 漸化式を微分してみましょう。後のトークンが来るたびに、傾きに同じ因子が掛かります。後のトークンはいくつありますか。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def slope_of_first_value(theta, alpha, tokens):
#     return 2 * theta * (1 - alpha - 2 * theta) ** (tokens - 1)
# ```
#
# </details>

# %% [markdown] lang="en"
# The library does it with a whole layer. Two calls, the second one's output differentiated with respect to the first
# one's input; then the same with `state.detach()` between them (decision D7).

# %% [markdown] lang="ja" en="7a5cc52e"
# ライブラリでは、層全体で同じことができます。2回の呼び出しのうち、2回目の出力を、1回目の入力で微分します。
# 次に、間に `state.detach()` をはさんで、同じことをします（決定D7）。

# %%
torch.manual_seed(0)
layer = NeuralMemory(dim=8)
text = torch.randn(1, 20, 8)
with torch.enable_grad():
    for cut in (False, True):
        earlier = text[:, :10].clone().requires_grad_()
        _, state = layer(earlier)
        state = state.detach() if cut else state
        y, _ = layer(text[:, 10:], state)
        loss = y.square().sum()
        (slope,) = torch.autograd.grad(loss, earlier, allow_unused=True)
        print(f"detached: {cut}, a gradient arrives: {slope is not None}")
        assert (slope is None) == cut
        assert cut or slope.norm() > 0

# %% [markdown] lang="en"
# The price of not cutting: everything that the earlier calls computed stays in memory until the backward pass. Training
# over long texts therefore carries the state and cuts it every so often. At test time, under `torch.no_grad()`, nothing
# is kept.
#
# ## 10. A needle in a haystack
#
# The paper hides one fact in a long text and asks for it at the end. Here is its table: percent of needles found at
# 2K/4K/8K/16K tokens, for three kinds of needle (figures of the paper's later version, NeurIPS 2025).

# %% [markdown] lang="ja" en="dc29c804"
# 切り離さないことには代償もあります。逆伝播が済むまで、前の呼び出しで計算したものがすべて残ります。
# そこで、長いテキストで訓練するときは、状態を引き継ぎながら、ときどき切り離します。
# テスト時に `torch.no_grad()` の下で動かせば、何も残りません。
#
# ## 10. 干し草の中の針
#
# 論文では、長いテキストの中に事実を1つ隠し、最後にそれについてたずねます。干し草の中の針（needle in a haystack）と呼ばれる課題です。
# 次は論文の表です（数値は、後の版（NeurIPS 2025）のものです）。
# 3種類の針（pass-key、number、word）について、2K/4K/8K/16Kトークンで見つかった割合（%）を示しています。

# %%
print(trials.paper_needle())

# %% [markdown] lang="en"
# Our own needle is a pass-key of four digits, in noise or in text; all four must be right. The models have one layer of
# 64 features and were trained on at most 256 tokens; the last line of the output says how long that took. They forget
# nothing ($\alpha = 0$), except the one in the last row, which learned how much to forget. For each number of tokens of
# hay, the table shows the percentage of needles found: the median of three training runs and, in brackets, the worst. It
# is read from the card that comes with the checkpoints.

# %% [markdown] lang="ja" en="78acbae1"
# この教材の針は4桁のパスキーで、雑音（noise）またはテキスト（text）の中に隠します。4桁とも合って、はじめて正解です。
# モデルは64次元の1層で、全体で256トークン以内の系列で訓練しました。訓練にかかった時間は、出力の最後の行にあります。
# どのモデルも何も忘れません（$\alpha = 0$）。最後の行のモデルだけは、どれだけ忘れるかを学習しました。
# 表は、干し草のトークン数ごとに、見つかった割合（%）を示しています。
# 3回の訓練の中央値で、括弧の中は最低値です。
# 値は、チェックポイントに付いているカードから読んでいます。

# %%
card = trials.needle_card()
print(trials.needle_table(card))
seconds = [each for run in card["runs"].values() for each in run["seconds"]]
print(f"\ntrained for {min(seconds):.0f} to {max(seconds):.0f} seconds each")
found = {name: run["right"] for name, run in card["runs"].items()}
for kind in ("noise", "text"):
    assert found[f"mac in {kind}"]["16384"]["worst"] > 0.9
    assert found[f"attention in {kind}"]["256"]["median"] == 0
    for variant in ("mag", "mal", "lmm"):
        assert found[f"{variant} in {kind}"]["4096"]["median"] > 0.4
        assert found[f"{variant} in {kind}"]["65536"]["median"] < 0.1
far = {name: right["65536"] for name, right in found.items()}
assert far["mac in text"]["median"] < far["mac in noise"]["worst"]
assert found["mac that forgets in noise"]["4096"]["worst"] > 0.9
assert found["mac that forgets in noise"]["65536"]["median"] == 0

# %% [markdown] lang="en"
# The two tables do not measure the same thing: the paper's models have hundreds of millions of parameters and read long
# texts. But the order is worth a look. MAC without forgetting finds nearly every needle at 64 times the
# length of its training, where the other variants have lost most of theirs in the median. At 65,536 tokens text is
# harder for it than noise. Without a memory nothing is found at any length.
#
# The last row finds its needles at 4,096 tokens too, and none at 65,536. Why? Two suspects: the hay writes over them, or
# the gate $\alpha$ lets them fade. A player would tell; so would an experiment.
#
# **Predict before you run.** We take this trained model and switch forgetting off at test time, $\alpha = 0$. No
# training. What happens at 65,536 tokens?

# %% [markdown] lang="ja" en="646a0e9d"
# この2つの表は、同じものを測っていません。論文のモデルには数億のパラメータがあり、長いテキストを読みます。
# それでも、順位は見ておく価値があります。忘却のない MAC は、訓練の64倍の長さでも、ほとんどすべての針を見つけます。
# ほかの変種は、その長さでは、中央値で見ると大半を失っています。65,536トークンでは、MAC にとって、テキストは雑音より難しい課題です。
# メモリがなければ、どの長さでも見つかりません。
#
# 最後の行のモデルも、4,096トークンでは針を見つけますが、65,536トークンでは1つも見つけません。なぜでしょうか。
# 疑わしいものは2つあります。干し草が上書きしたのか、それともゲート $\alpha$ のために薄れたのか。
# どちらなのかは、プレーヤーで見ても、実験してもわかります。
#
# **実行する前に予想してみましょう。**
# この学習済みのモデルで、テスト時に忘却だけを切ります（$\alpha = 0$）。訓練はしません。
# 65,536トークンでは、どうなるでしょうか。

# %% tags=["nbval-ignore-output"]
needle, _, _ = load_checkpoint("needle/mac-that-forgets-in-noise")
watching.memory_of(needle).forgetting = False  # alpha = 0
without = share_right(needle, Needle("noise"), 65536, rows=8)
as_trained = found["mac that forgets in noise"]["65536"]["each"][0]  # seed 0
print(f"as trained, from the card: {as_trained:.0%} of the needles found")
print(f"with α = 0:                {without:.0%}")
assert without > as_trained + 0.3

# %% [markdown] lang="en"
# It was forgetting, for the most part. On 256 tokens a small $\alpha$ costs nothing, so nothing in training told the gate
# to be smaller still; over 65,536 tokens it adds up. Nothing in training asks a memory to last longer than its
# sequences. The needles that are still lost have been written over by the hay; models trained with $\alpha = 0$ from the
# start lose fewer of them. None of this is a reason to do without forgetting: where facts change, it clears away the old
# ones.
#
# ## Summary
#
# - At test time the parameters rest; $M_t$ and $S_t$ go on, for each sequence its own. Reading changes nothing, so you
#   can ask at any moment.
# - A fact is in $S$ before it is in $M$. Frozen right after it was told, the trained memory lost the last fact; four
#   tokens later it had it.
# - Surprise drives writing. In a trained model it does not tell what is known: facts that it answered surprised it as
#   much as when they were new, since only the direction of what is read counts.
# - The state has a constant size: three times the memory's weights, for each sequence, head and layer.
# - How long a fact lasts depends on what training made of the gates, and on what is written over it. In MAC it was 200
#   times the length of training for recall, 16 times for a needle that is let fade, and at least 64 times for one
#   that is not.
# - A state can be saved, loaded by another model of the same configuration, and differentiated through.
#
# ## References
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663), equations 13 to 15; its later version (NeurIPS 2025) for the table.
# - Y. Sun et al.: *Learning to (Learn at Test Time)*, arXiv [2407.04620](https://arxiv.org/abs/2407.04620).
# - C.-P. Hsieh et al.: *RULER*, arXiv [2404.06654](https://arxiv.org/abs/2404.06654): needle tasks like those of the
#   table.

# %% [markdown] lang="ja" en="bfd734c7"
# おもに、忘却のせいでした。256トークンなら、小さな $\alpha$ で失うものはありません。
# ですから、訓練では、ゲートをもっと小さくする理由がありませんでした。
# しかし、65,536トークンでは、少しずつの忘却が積み重なります。
# 訓練で使った系列より長く覚えていることを、訓練は求めていないのです。
# 忘却を切っても見つからない針は、干し草が上書きしたものです。
# はじめから $\alpha = 0$ で訓練したモデルは、失う針がもっと少なくなっています。
# だからといって、忘却を捨てる理由にはなりません。事実が変わっていくところでは、忘却が古い事実を片付けてくれます。
#
# ## まとめ
#
# - テスト時には、パラメータは変わりません。変わり続けるのは $M_t$ と $S_t$ で、系列ごとに別々です。
#   読み出しは何も変えないので、いつでもたずねることができます。
# - 事実は、$M$ より先に $S$ に入ります。伝えられた直後に凍結すると、学習済みのメモリは最後の事実を失いました。
#   4トークン後なら、残っていました。
# - 驚きは書き込みを動かします。しかし、学習済みのモデルが何を知っているかを示すものではありません。
#   正しく答えられる事実にも、初めて聞いたときと同じだけ驚きました。読み出したものは、向きだけが使われるからです。
# - 状態の大きさは一定で、系列、ヘッド、層のそれぞれについて、メモリの重みの3倍です。
# - 事実がどれだけ長く残るかは、訓練がゲートをどう決めたかと、何が上書きするかによります。
#   MAC では、想起で訓練の200倍の長さでした。針では、忘却があれば16倍、なければ64倍以上でした。
# - 状態は、保存することも、同じ設定の別のモデルで読み込むことも、それを通して微分することもできます。
#
# ## 参考文献
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663)。式(13)〜(15)。表は後の版（NeurIPS 2025）のものです。
# - Y. Sun et al.: *Learning to (Learn at Test Time)*, arXiv [2407.04620](https://arxiv.org/abs/2407.04620)。
# - C.-P. Hsieh et al.: *RULER*, arXiv [2404.06654](https://arxiv.org/abs/2404.06654)。表と同じ種類の課題を扱います。
