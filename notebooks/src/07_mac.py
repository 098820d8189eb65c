# %% [markdown] lang="en"
# # 07 · MAC: memory as context
#
# *Titans, step by step.* About 45 minutes to read, 95 with the exercises; the code runs in about 30 seconds.
# Run the cells from top to bottom.
#
# **You will learn**
#
# - in which order MAC does things: read, concatenate, attend, write, read, gate;
# - to build the block line by line, and to match the library to ten digits;
# - why the equations, taken literally, let a token see its future, and which two rules stop that;
# - what the memory adds to a model, and which part ties a key to its value: you train it and look.
#
# **You need** lesson 02 (a memory is read and written), lesson 03 (its gates), lesson 06 (persistent tokens), and
# attention with a causal mask.

# %% [markdown] lang="ja" en="cf73977d"
# # 07 · MAC：コンテキストとしてのメモリ
#
# 「Titans, step by step」（一歩ずつ学ぶ Titans）のレッスン07です。読むのに約45分、演習も解くと約95分、コードの実行に約30秒かかります。
# セルは上から順に実行してください。
#
# **このレッスンで学ぶこと**
#
# - MAC（memory as a context）の処理の順序。読み、連結し、アテンション（attention）をかけ、書き、もう一度読み、ゲート（gate）を通します。
# - ブロック（block）を1行ずつ組み立てて、ライブラリと10桁まで一致させること。
# - 式を文字どおりに読むとトークン（token）に未来が見えてしまう理由と、それを防ぐ2つの規則。
# - メモリ（memory）によってモデルに何ができるようになり、どの部品がキー（key）と値（value）を結びつけているかを、自分で訓練（training）して調べること。
#
# **必要な知識**：メモリの読み書き（レッスン02）、そのゲート（レッスン03）、永続トークン（persistent token、レッスン06）、因果的な（causal）マスク（mask）のあるアテンション。

# %%
import torch
import torch.nn.functional as F

from titans import TitansConfig, TitansLM
from titans.attention import rotate
from titans.blocks import MAC
from titans.checkpoints import load_checkpoint
from titans.lesson import predict, progress, start
from titans.lesson.kit import traces
from titans.lesson.kit.draws import randomise
from titans.lesson.kit.watching import without_h
from titans.lesson.lesson_07 import exercises, leaky_mac, pictures, trials
from titans.lesson.lesson_07.lab import mac_lab
from titans.tasks import Recall, ScatteredRecall
from titans.training import share_right

start()

# %% [markdown] lang="en"
# If the import fails, this course's package is not installed: run `pip install -e .` in the folder that you cloned
# (in Colab: clone the repository, go into its folder with `%cd`, install it there in the same way, then run the cell
# above). The package that PyPI calls `titans` is another one.
#
# ## 1. Two ways to remember
#
# Attention is exact and costs more with every token that it may look at. So it gets a short *segment*. The memory of
# lessons 02 and 03 has a fixed size, reaches back to the first token, and is never quite exact. MAC, *memory as a
# context*, puts the one into the other: what the memory finds becomes more tokens for attention to look at.
#
# Four words that are easy to mix up:
#
# | word | what it is |
# |---|---|
# | sequence | everything that one reader reads, from its first token on; a memory belongs to one sequence |
# | batch | several sequences side by side, which never see each other |
# | segment | the tokens that see one another in attention |
# | chunk | the tokens whose gradients are taken at the same weights of the memory (D1) |
#
# Here are the six steps that MAC takes for a segment. The order is the point: the memory is read *before* attention,
# written *after* it, and then read once more.

# %% [markdown] lang="ja" en="cbcf8385"
# import に失敗するときは、この教材のパッケージがまだインストールされていないので、
# クローンしたフォルダーで `pip install -e .` を実行してください。
# Colab では、リポジトリをクローンし、`%cd` でそのフォルダーに入り、同じようにインストールしてから、上のセルを実行します。
# なお、PyPI で `titans` という名前のパッケージは別物です。
#
# ## 1. 2通りの覚え方
#
# アテンションは正確ですが、見てよいトークンが増えるほどコストがかかるので、見る範囲を短い**セグメント**（segment）に限ります。
# 一方、レッスン02と03のメモリは、大きさが決まっていて、最初のトークンまでさかのぼれますが、完全に正確にはなりません。
# MAC（memory as a context、コンテキストとしてのメモリ）は、この2つを組み合わせて、
# メモリから読み出したものを、アテンションが見るトークンとして加えます。
#
# 混同しやすい言葉が4つあります。
#
# | 言葉 | 意味 |
# |---|---|
# | 系列（sequence） | 1つのモデルが最初から続けて読むトークン全部。1つのメモリは、1つの系列に属します |
# | バッチ（batch） | 並べて処理する複数の系列。互いに影響しません |
# | セグメント（segment） | アテンションで互いが見えるトークンのまとまり |
# | チャンク（chunk） | メモリの同じ重み（weights）で勾配（gradient）をとるトークンのまとまり（D1） |
#
# 次の図は、MAC が1つのセグメントに対して行う6つの手順です。大事なのは順序で、
# メモリは、アテンションの**前**に読み、**後**に書き、それからもう一度読みます。

# %%
pictures.flow()

# %% [markdown] lang="en"
# ## 2. On paper first
#
# Make everything as small as it gets. A token is one number, and so is the memory $M$. A query is the token itself,
# so reading is a product. Attention averages what it sees. One persistent token, $P = 0$. A write moves $M$ half of the
# way to the value ($\theta = \tfrac14$, key 1, as in lesson 03). The gate stands open: $o$ is the last read, $M y$.
#
# **Predict before you run.** A segment of two tokens, $x = (1, 3)$, and $M = 2$ before it. Work out with a pencil: the
# two retrieved tokens $h$; the average that token 0 gets of $P$, both $h$ and $x_0$; the average that token 1 gets.

# %% [markdown] lang="ja" en="9b76219b"
# ## 2. まず紙の上で
#
# すべてをできるだけ小さくして、トークンもメモリ $M$ も、1つの数とします。
# クエリ（query）はトークンそのもの、読み出しは掛け算とし、アテンションは、見えるものの平均をとることにします。
# 永続トークンは1個で、$P = 0$ とします。
# 1回の書き込みで、$M$ は値との差の半分だけ動きます（レッスン03と同じく、キーは1、$\theta = \tfrac14$）。
# ゲートは開いたままにするので、最後に読み出した $M y$ が、そのまま $o$ になります。
#
# **実行する前に予想してみましょう。**
# セグメントは2トークンで $x = (1, 3)$、その前のメモリは $M = 2$ です。次の3つを、鉛筆で計算してください。
#
# - 読み出した2つのトークン $h$
# - トークン0がとる平均（$P$ と、2つの $h$ と、$x_0$ の平均）
# - トークン1がとる平均


# %%
predict("...")


# %%
def on_paper(x, M=2.0):
    h = M * x  # 1 read
    y = []
    for i in range(len(x)):
        context = torch.cat((torch.zeros(1), h, x[: i + 1]))  # 2 concatenate
        y.append(context.mean())  # 3 attend
    for value in y:
        M = M - 0.25 * 2 * (M - value)  # 4 write
    o = torch.stack(y) * M  # 5 read, 6 gate
    return h, torch.stack(y), M, o


h, y, M, o = on_paper(torch.tensor([1.0, 3.0]))
print(f"h: {h}\ny: {y}\nM: {M:.4f}\no: {o}")

# %% [markdown] lang="en"
# $h = (2, 6)$; token 0 averages $0, 2, 6, 1$ to $2.25$ and token 1 averages $0, 2, 6, 1, 3$ to $2.4$. Each write goes
# half of the way, so $M$ moves from 2 to 2.125 and on to 2.2625. Keep this example. Something is wrong with it, and it
# will come back.
#
# ## 3. The block, line by line
#
# Now with vectors. These are the paper's equations 21 to 25 for segment $S^{(t)}$:
#
# $$h_t = M^*_{t-1}(q_t), \quad q_t = S^{(t)} W_Q$$
#
# $$\tilde S^{(t)} = [\,P \,\Vert\, h_t \,\Vert\, S^{(t)}\,], \qquad y_t = \mathrm{Attn}(\tilde S^{(t)})$$
#
# $$M_t = M_{t-1}(y_t), \qquad o_t = y_t \otimes M^*_t(y_t)$$
#
# The star means reading; without it $M_{t-1}(y_t)$ is a write, all tokens of $y_t$ one after another. Watch the index:
# here $t$ counts segments.
#
# We take the weights from a block of the library: 8 features, one head, a matrix memory, segments of 4, chunks of 2.
# All weights are random numbers, and so are the 11 tokens of `x`: a rule about who sees whom has to hold for any weights.
# After every piece or two we compare with the library's own, in `library`; `same` asks for ten digits.

# %% [markdown] lang="ja" en="5ea10e08"
# $h = (2, 6)$ です。トークン0は $0, 2, 6, 1$ の平均で $2.25$、トークン1は $0, 2, 6, 1, 3$ の平均で $2.4$ になります。
# 書き込むたびに差の半分だけ動くので、$M$ は2から2.125、さらに2.2625になります。
# この例には実はおかしなところがあって、後でもう一度取り上げるので、覚えておいてください。
#
# ## 3. ブロックを1行ずつ
#
# 今度はベクトルで考えます。セグメント $S^{(t)}$ について、論文の式(21)〜(25)は次のとおりです。
#
# $$h_t = M^*_{t-1}(q_t), \quad q_t = S^{(t)} W_Q$$
#
# $$\tilde S^{(t)} = [\,P \,\Vert\, h_t \,\Vert\, S^{(t)}\,], \qquad y_t = \mathrm{Attn}(\tilde S^{(t)})$$
#
# $$M_t = M_{t-1}(y_t), \qquad o_t = y_t \otimes M^*_t(y_t)$$
#
# 星印は読み出しを表し、星印のない $M_{t-1}(y_t)$ は、$y_t$ のトークンを1つずつ順に書き込むことを表します。
# 添字の $t$ が、ここではセグメントの番号であることに注意してください。
#
# ライブラリと比べられるように、重みはライブラリのブロックから取り出します。
# 8次元、ヘッド（head）は1つ、行列のメモリ、セグメントは4トークン、チャンクは2トークンです。
# 重みも、11トークンの入力 `x` も乱数です。どのトークンから何が見えるかについての規則は、どんな重みでも成り立たなければならないからです。
# 部品を1つか2つ書くごとに、`library` にあるライブラリの同じ部品と比べ、`same` で10桁まで一致するかどうかを確かめます。

# %%
SEGMENT, CHUNK = 4, 2
config = TitansConfig(
    dim=8,
    heads=1,
    memory_depth=1,
    segment_len=SEGMENT,
    chunk_size=CHUNK,
    persistent_tokens=2,
)
mac = MAC(config).double()
randomise(mac, seed=0)
W = {name: weight.detach() for name, weight in mac.named_parameters()}
print(len(W), "tensors, among them", *list(W)[:4])

# %%
library = trials.Library(mac)
torch.manual_seed(0)
x = torch.randn(11, 8, dtype=torch.float64)


def same(ours, theirs):
    return bool((ours - theirs).abs().max() < 1e-10)


# %% [markdown] lang="en"
# Three small tools: a causal convolution over a token and the three before it (section 4.4 of the paper), unit length,
# and a normalisation with a learned scale.

# %% [markdown] lang="ja" en="b196fa97"
# まず、小さな道具を3つ用意します。トークンとその前の3トークンにわたる因果的な畳み込み（convolution、論文の4.4節）、
# 長さを1にする関数、学習されたスケールを持つ正規化です。


# %%
def conv(x, kernel):
    width = kernel.shape[-1]
    padded = F.pad(x, (0, 0, width - 1, 0))  # nothing before the first token
    return sum(padded[j : j + len(x)] * kernel[:, 0, j] for j in range(width))


def unit(x):
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def norm(x, scale, eps=1e-6):
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * scale


# %% [markdown] lang="en"
# **Read** (equation 21). Every token of the segment asks the memory, which is still as it was before the segment. There
# are as many $h$ as there are tokens.

# %% [markdown] lang="ja" en="64369555"
# **読み出し**（式(21)）。セグメントの各トークンが、まだセグメントの前の状態にあるメモリにたずねます。
# $h$ は、トークンと同じ数だけできます。
# 出力の「h: True」は、ライブラリのものと一致したという意味で、この後の出力も同じです。


# %%
def ask(x):  # q: [tokens, dim]
    return unit(F.silu(conv(x @ W["W_Q.weight"].T, W["conv.weight"])))


def retrieve(M, q):  # h: [tokens, dim]
    return norm(q @ M.T, W["norm.weight"])


M = W["memory.memory.weights.0"][0]
print("h:", same(retrieve(M, ask(x)), library.retrieve(x)))


# %% [markdown] lang="en"
# **Concatenate and attend** (equations 22 and 23). One softmax over everything, as in lesson 06, where $P$ stood in front
# of the text; now $h$ stands between the two. `seen` says what each token may look at; `visible`, below, makes it.
#
# What does "position" mean for something that was retrieved? Here $h_j$ carries the position of its own token $j$,
# turned by rotary positions (`rotate`) just as $x_j$ is. The persistent tokens carry none (decision D4).

# %% [markdown] lang="ja" en="17e02a84"
# **連結とアテンション**（式(22)と式(23)）。レッスン06と同じように、全体に1つの softmax をかけます。
# レッスン06では $P$ のすぐ後にテキストが続きましたが、今度はその間に $h$ が入ります。
# `seen` は各トークンが見てよいものを表し、その次のセルの `visible` で作ります。
#
# 読み出したものにとって、「位置」（position）とは何でしょうか。
# ここでは、$h_j$ には自分のトークン $j$ の位置を与え、$x_j$ と同じように、回転位置埋め込み（rotary position、RoPE）の `rotate` で回します。
# 永続トークンには位置を与えません（決定D4）。


# %%
def attend(x, h, seen):
    Q, K, V, out = (W[f"attention.W_{name}.weight"].T for name in "QKVO")
    P, q = W["persistent"], x @ Q
    turned = rotate(q, 0)
    scores = [
        q @ (P @ K).T,
        turned @ rotate(h @ K, 0).T,
        turned @ rotate(x @ K, 0).T,
    ]
    scores = torch.cat(scores, dim=1) / q.shape[1] ** 0.5
    shares = scores.masked_fill(~seen, -torch.inf).softmax(dim=1)
    return shares @ torch.cat((P, h, x)) @ V @ out


# %% [markdown] lang="en"
# `mask_h` decides who sees the retrieved tokens: with `False` every token of the segment sees every $h$, which is what
# the equations say. The library has `True`.

# %% [markdown] lang="ja" en="77410830"
# 読み出したトークンがどのトークンから見えるかは、`mask_h` で決めます。
# `False` なら、セグメントのどのトークンからも、すべての $h$ が見えます。これが式どおりの設定です。ライブラリでは `True` です。


# %%
def visible(tokens, mask_h):  # [tokens, P + h + x], True: may be seen
    P = torch.ones(tokens, len(W["persistent"]), dtype=torch.bool)
    everything = torch.ones(tokens, tokens, dtype=torch.bool)
    past = everything.tril()
    return torch.cat((P, past if mask_h else everything, past), dim=1)


S = x[:SEGMENT]
h = retrieve(M, ask(S))
attended = attend(S, h, visible(SEGMENT, mask_h=True))
print("attention:", same(attended, library.attend(S, h)))

# %% [markdown] lang="en"
# ### Exercise 1: how much does a token see?
#
# Suppose a token sees, of $h$ and of $x$, its own and those before it in its segment. How many entries of
# $[\,P \,\Vert\, h \,\Vert\, S\,]$ does token number `t` of a stream see, counted from 0?

# %% [markdown] lang="ja" en="e209d7b1"
# ### 演習1：1つのトークンから何個が見えるか
#
# $h$ も $x$ も、同じセグメントの中の、自分の分とそれより前の分だけが見えるものとします。
# ストリーム（stream）の `t` 番目のトークン（0から数えます）からは、
# $[\,P \,\Vert\, h \,\Vert\, S\,]$ のうち何個が見えるでしょうか。


# %%
def sees(t, segment_len, persistent):
    return ...  # a whole number


exercises.SEES.check(sees)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# Token `t` has place `t % segment_len` in its segment. Each token up to it stands there twice.
#
# </details>

# %% [markdown] lang="ja" en="0734a5dc"
# <details><summary>ヒント</summary>
#
# トークン `t` は、セグメントの中で `t % segment_len` 番目です。そこまでの各トークンは、2か所に並んでいます。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def sees(t, segment_len, persistent):
#     return persistent + 2 * (t % segment_len + 1)
# ```
#
# </details>

# %% [markdown] lang="en"
# **Write** (equation 24). What attention made of the segment, $y$, is written, not the segment itself. Section 7 asks
# what that is good for. The update is that of lesson 03, with keys and values of $y$; `project` is equation 11. Here
# is the convolution again.

# %% [markdown] lang="ja" en="d7e58b6f"
# **書き込み**（式(24)）。書き込むのはセグメントそのものではなく、アテンションがそこから作った $y$ で、
# それが何の役に立つのかは7節で調べます。
# 更新はレッスン03と同じで、キーと値は $y$ から作ります。`project` は式(11)で、ここでも畳み込みを使います。


# %%
def project(y):
    three = torch.cat([W[f"memory.W_{name}.weight"] for name in "QKV"])
    mixed = F.silu(conv(y @ three.T, W["memory.conv.weight"]))
    q, k, v = mixed.chunk(3, dim=1)
    gates = y @ W["memory.to_gates.weight"].T + W["memory.to_gates.bias"]
    return unit(q), unit(k), v, torch.sigmoid(gates)


pairs = zip(project(x), library.project(x), strict=True)
print("q, k, v, gates:", *(same(ours, theirs) for ours, theirs in pairs))


# %% [markdown] lang="en"
# Token by token, a write and a read. Taken literally, equation 25 reads $M^*_t$, the memory after the *whole* segment,
# for all its tokens. `per_token=True` reads with the memory right after the token's own write instead.

# %% [markdown] lang="ja" en="bff1ccef"
# トークンごとに、書き込んでから読み出します。
# 式(25)を文字どおりに読むと、どのトークンにも $M^*_t$、つまりセグメント**全体**を書いた後のメモリで答えることになります。
# `per_token=True` にすると、そのトークン自身を書いた直後のメモリで読みます。


# %%
def write(M, S, M_chunk, k, v, gates):
    theta, eta, alpha = gates
    u = torch.outer(2 * (M_chunk @ k - v), k)
    S = eta * S - theta * u
    return (1 - alpha) * M + S, S


# %%
def write_and_read(state, written, first, per_token):
    M, S, M_chunk = state
    q, k, v, gates = project(written)
    segment, reads = range(first, len(written)), []
    for t in segment:
        if t % CHUNK == 0:
            M_chunk = M  # gradients of a chunk share these weights (D1)
        M, S = write(M, S, M_chunk, k[t], v[t], gates[t])
        reads.append(M @ q[t])
    if not per_token:
        reads = [M @ q[t] for t in segment]
    return torch.stack(reads), (M, S, M_chunk)


# %%
before = (M, torch.zeros_like(M), M)
reads, _ = write_and_read(before, x, 0, per_token=True)
print("write and read:", same(reads, library.write_and_read(x)))

# %% [markdown] lang="en"
# **Gate** (equation 25). The read leaves the memory through an output gate of its own, as every memory layer of the
# paper has it (section 4.4). Then $\otimes$: both sides normalised, one squashed by a sigmoid, multiplied. The paper
# leaves open which non-linearity; the sigmoid is a decision of this course (D14).

# %% [markdown] lang="ja" en="c7ad8dfe"
# **ゲート**（式(25)）。読み出したものは、まずメモリ自身の出力ゲートを通ります。これは、論文のメモリの層（layer）にはどれにも付いています（4.4節）。
# 次が $\otimes$ で、両方を正規化し、その片方をシグモイド（sigmoid）に通してから掛け合わせます。
# 論文には、どの非線形関数を使うかが書かれておらず、シグモイドを使うのは、この教材で決めたことです（D14）。


# %%
def gate(y, written, reads):
    z = norm(reads, W["memory.norm.weight"], eps=1e-3)  # D14
    z = z * torch.sigmoid(written @ W["memory.W_G.weight"].T)
    z = z @ W["memory.W_O.weight"].T
    left = norm(y, W["combine.norm_attention.weight"])
    right = norm(z, W["combine.norm_memory.weight"], eps=1e-2)
    return torch.sigmoid(left) * right


print("gate:", same(gate(x, x, reads), library.gate(x, x, reads)))


# %% [markdown] lang="en"
# And the whole block, segment by segment. One thing in it is not in the equations: `x[part] +`, a residual around
# attention (D13). Section 7 shows what it is for.

# %% [markdown] lang="ja" en="5004256d"
# 最後は、セグメントごとに進むブロックの全体です。
# 式にないものが1つだけ、`x[part] +` という、アテンションのまわりの残差接続（residual）があります（D13）。
# 何のためにあるのかは、7節で調べます。


# %%
def mac_by_hand(x, mask_h, per_token):
    M = W["memory.memory.weights.0"][0]
    state, written, o = (M, torch.zeros_like(M), M), x[:0], []
    for part in torch.arange(len(x)).split(SEGMENT):
        h = retrieve(state[0], ask(x)[part])  # 21
        y = x[part] + attend(x[part], h, visible(len(h), mask_h))  # 22, 23
        y_written = norm(y, W["norm_written.weight"])
        written = torch.cat((written, y_written))
        first = int(part[0])
        reads, state = write_and_read(state, written, first, per_token)  # 24
        o.append(gate(y, y_written, reads))  # 25
    return torch.cat(o)


# %% [markdown] lang="en"
# ## 4. Can a token see its future?
#
# A language model predicts the next token. If the output for token $i$ depends on token $i + 1$, it can look the answer
# up, trains to perfection, and fails when it has to generate. So ask it with the sharpest tool there is, the Jacobian:
# how much does output $o_i$ change with input $x_j$? For $j > i$ the answer must be exactly 0.
#
# **Predict before you run.** 11 tokens in segments of 4, the equations taken literally. The mask on $x$ is causal. Is
# the Jacobian zero above the diagonal?

# %% [markdown] lang="ja" en="194719c0"
# ## 4. トークンに未来は見えるか
#
# 言語モデル（language model）は、次のトークンを予測します。
# もしトークン $i$ の出力がトークン $i + 1$ によって変わるなら、モデルは答えをのぞき見できることになり、
# 訓練では完璧に当てられるようになっても、生成するときには失敗します。
# そこで、入力 $x_j$ を変えると出力 $o_i$ がどれだけ変わるかを、いちばん確実な方法として、ヤコビ行列（Jacobian）で調べます。
# $j > i$ のときは、ちょうど0でなければなりません。
#
# **実行する前に予想してみましょう。**
# 11トークン、セグメントは4トークンで、式は文字どおりとし、$x$ のマスクは因果的とします。
# ヤコビ行列の対角線より上は、ゼロになるでしょうか。
# 出力は、未来（the future）からの影響と、過去（the past）からの影響の、それぞれ最大値です。


# %%
predict("...")


# %%
def influence(mask_h, per_token):  # |d o_i / d x_j|: [tokens, tokens]
    slopes = torch.autograd.functional.jacobian(
        lambda x: mac_by_hand(x, mask_h, per_token), x
    )
    return trials.sizes(slopes)


literal = influence(mask_h=False, per_token=False)
print(f"largest influence of the future: {literal.triu(1).max():.2g}")
print(f"largest influence of the past:   {literal.tril().max():.2g}")

# %% [markdown] lang="en"
# It is not zero at all. Go back to the numbers on paper and change the *last* token from 3 to 4. What happens to the
# *first* token's average?

# %% [markdown] lang="ja" en="34b7e4ed"
# ゼロではありませんでした。紙の上の例に戻り、**最後**のトークンを3から4に変えてみましょう。
# **最初**のトークンの平均は、どうなるでしょうか。
# 出力の「first y」がその平均で、「first o」は最初のトークンの出力です。

# %%
assert literal.triu(1).max() > 0.1

for last in (3.0, 4.0):
    _, y, _, o = on_paper(torch.tensor([1.0, last]))
    print(f"x = (1, {last:.0f}): first y {y[0]:.2f}, first o {o[0]:.4f}")

# %% [markdown] lang="en"
# The first $y$ moved from 2.25 to 2.75, because it averages over both $h$, and the second $h$ was asked for with the
# second token. That is the first leak: **a retrieved token carries the token that asked.**
#
# **Predict before you run.** So let $h_j$ be seen only by tokens $i \ge j$. Is that enough?

# %% [markdown] lang="ja" en="6f689164"
# 最初の $y$ が、2.25から2.75に変わりました。この平均には2つの $h$ が含まれていて、2つ目の $h$ は2つ目のトークンでたずねた答えだからです。
# これが1つ目の漏れ（leak）です。つまり、**読み出したトークンには、それをたずねたトークンの情報が入っている**のです。
#
# **実行する前に予想してみましょう。**
# では、$h_j$ が見えるのを、$i \ge j$ のトークンだけに限れば、十分でしょうか。
# 出力は、上から順に、文字どおり（literal）、h のマスクだけ（mask on h only）、
# トークンごとの読み出しだけ（read per token only）、両方（both）の場合の、未来からの影響の最大値です。

# %%
predict("...")

# %%
found = {name: influence(*rules) for name, rules in leaky_mac.MODES.items()}
for name, size in found.items():
    print(f"{name:20} the future: {size.triu(1).max():.2g}")

# %% [markdown] lang="en"
# It is not, and neither is the other rule alone. The second leak: **the memory that answers has read the whole
# segment.** Token 0 is answered by weights into which tokens 1, 2 and 3 have been written. Only with both rules is
# every number above the diagonal 0, not small but exactly 0 (decision D3).
#
# In the picture a cross marks each entry of the future; white is exactly 0. The leaks end at the border of the segment:
# a test with segments of a single token would never see them.

# %% [markdown] lang="ja" en="ca249bc0"
# これだけでは十分でなく、もう一方の規則だけでも足りません。
# 2つ目の漏れは、**答えるメモリが、セグメント全体を読み終えている**ことです。
# トークン0に答えるときの重みには、トークン1、2、3がもう書き込まれています。
# 対角線より上の数がすべて0になるのは、両方の規則があるときだけで、小さいのではなく、ちょうど0になります（決定D3）。
#
# 図の×印は未来からの影響で、白いところはちょうど0です。漏れはセグメントの境目で止まるので、
# 1トークンだけのセグメントで試していると、漏れがあっても気づけません。

# %%
for name, size in found.items():
    assert (size.triu(1).max() > 0) == (name != "both")
pictures.leaks(found, SEGMENT)

# %% [markdown] lang="en"
# ### Exercise 2: the mask
#
# Write the mask of $[\,P \,\Vert\, h \,\Vert\, x\,]$ for one segment: a row for each token, `True` where it may look.
# No leak, and nothing hidden that belongs to the past.

# %% [markdown] lang="ja" en="28daabcb"
# ### 演習2：マスク
#
# 1つのセグメントについて、$[\,P \,\Vert\, h \,\Vert\, x\,]$ のマスクを書いてください。
# 1つの行が1つのトークンで、見てよいところを `True` にします。
# 漏れがあってはいけません。また、過去のものは1つも隠さないでください。


# %%
def mask(tokens, persistent):
    return ...  # booleans, [tokens, persistent + 2 * tokens]


exercises.MASK.check(mask)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# `torch.ones(tokens, tokens).tril().bool()` is the triangle of what is past. You need it twice, and something for `P` in
# front; `torch.cat(..., dim=1)` puts them side by side.
#
# </details>

# %% [markdown] lang="ja" en="f7addfab"
# <details><summary>ヒント</summary>
#
# 過去を表す三角形は `torch.ones(tokens, tokens).tril().bool()` で作れます。これが2つと、先頭に置く `P` の分が必要です。
# 横に並べるには `torch.cat(..., dim=1)` を使います。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def mask(tokens, persistent):
#     past = torch.ones(tokens, tokens).tril().bool()
#     everyone = torch.ones(tokens, persistent).bool()
#     return torch.cat((everyone, past, past), dim=1)
# ```
#
# </details>

# %% [markdown] lang="en"
# ### Exercise 3: read after your own write
#
# A matrix memory without momentum and forgetting, every token a chunk of its own. Write the tokens `K[t]`, `V[t]` one
# after another with step `theta`, and let each token read with its query `Q[t]`, so that nothing leaks and equation 25
# holds for its own write. Return the answers, `[tokens, dim]`.

# %% [markdown] lang="ja" en="cc462cc6"
# ### 演習3：自分の書き込みの後で読む
#
# モーメンタム（momentum）も忘却（forgetting）もない行列のメモリで、1トークンを1チャンクとします。
# トークン `K[t]`、`V[t]` をステップ幅（step size）`theta` で順に書き込み、各トークンは自分のクエリ `Q[t]` で読みます。
# 漏れがなく、自分の書き込みについては式(25)が成り立つようにして、答えを `[tokens, dim]` の形で返してください。


# %%
def answers(M, K, V, Q, theta):
    return ...  # [tokens, dim]


exercises.WRITE_AND_READ.check(answers)

# %% [markdown] lang="en"
# <details><summary>Hint</summary>
#
# One loop over the tokens, and in it two lines: the write of lesson 02, `M = M - theta * ...`, then the read `M @ Q[t]`.
#
# </details>

# %% [markdown] lang="ja" en="a551564d"
# <details><summary>ヒント</summary>
#
# トークンについてのループを1つ書き、その中を2行にします。1行目がレッスン02の書き込み `M = M - theta * ...`、
# 2行目が読み出し `M @ Q[t]` です。
#
# </details>

# %% [markdown]
# <details><summary>Solution · 解答</summary>
#
# ```python
# def answers(M, K, V, Q, theta):
#     reads = []
#     for t in range(len(K)):
#         M = M - theta * torch.outer(2 * (M @ K[t] - V[t]), K[t])
#         reads.append(M @ Q[t])
#     return torch.stack(reads)
# ```
#
# </details>

# %% [markdown] lang="en"
# ## 5. The same as the library
#
# Each piece was the same. With both rules on, what they make up is `titans.blocks.MAC`. The library computes a chunk at
# once and keeps what it needs between calls; the numbers are the same.

# %% [markdown] lang="ja" en="4346045d"
# ## 5. ライブラリと一致する
#
# 部品は1つずつ一致していましたが、両方の規則を入れると、それを組み立てた全体も `titans.blocks.MAC` と一致します。
# ライブラリはチャンクごとにまとめて計算し、次の呼び出しに必要なものを保存しますが、数値は同じです。
# 出力の「equal to ten digits: True」は、10桁まで一致したという意味で、次の行は対角線より上の最大値です。

# %%
by_library, state = mac(x[None], mac.initial_state(batch=1))
by_hand = mac_by_hand(x, mask_h=True, per_token=True)
print("equal to ten digits:", same(by_hand, by_library[0]))
assert same(by_hand, by_library[0])
print("above the diagonal, exactly:", found["both"].triu(1).max().item())
assert (found["both"].triu(1) == 0).all()

# %% [markdown] lang="en"
# ## 6. Who can see whom
#
# The lab shows 16 tokens. Above, the mask: persistent tokens, $h$, and $x$, with the row of the token that you ask for
# in full colour. Below, the Jacobian: which inputs reach its output, through attention *and* through the memory. Red
# bars with a cross belong to the future. (Where no kernel runs, you see `literal` and `both`, one below the other.)
#
# 1. Literal mode, query token 11, the last of its segment: does it see the future?
# 2. Both rules, segments of 2: attention sees two tokens. How far back does the output reach?
# 3. How many persistent tokens does it take to close a leak?

# %% [markdown] lang="ja" en="fed2199e"
# ## 6. どのトークンから何が見えるか
#
# MAC 実験室では、16個のトークンを扱います。上の図はマスクで、列は左から永続トークン、$h$、$x$ の順に並び、
# 調べているトークンの行だけが濃い色になります。
# 下の図はヤコビ行列で、アテンションと**メモリ**の両方を通って、どの入力がその出力に届くかを示します。
# ×印の付いた赤い棒は、未来のトークンです。
#
# スライダーの「セグメント」はその長さ、「永続トークン」はその数、「トークン」は調べるトークンです。
# （カーネルが動いていないときは、「文字どおり」と「両方」が上下に並びます。）
#
# 1. 文字どおりのモードで、セグメントの最後であるトークン11を調べます。未来は見えますか。
# 2. 両方の規則を入れ、セグメントを2トークンにすると、アテンションで見えるのは2トークンだけになります。
#    では、出力には、どこまで前のトークンが届きますか。
# 3. 永続トークンを何個にすれば、漏れを止められますか。

# %%
lab = mac_lab()
lab

# %% [markdown] lang="en"
# <details><summary>Answers</summary>
#
# 1. No: there is nothing left of its segment. So whoever tests the last token of a segment alone misses the error.
# 2. To token 0. Attention ends at the segment; what is older arrives through the memory alone (grey bars).
# 3. No number does. The mask decides that, not what stands in front.
#
# </details>
#
# ## 7. What the memory is worth
#
# Now train it. The task is key-value recall: four pairs of a key and a value are told in one stretch, noise passes, and
# then each key is asked for. A key and its value are one token each, and there are 8 values. A segment has 8 tokens,
# and what is told fills the first: when the questions come, attention cannot see it any more.
#
# **Predict before you run.** What share of right answers does a model without a memory get?

# %% [markdown] lang="ja" en="32245f10"
# <details><summary>答え</summary>
#
# 1. 見えません。そのセグメントには、もう後ろのトークンがないからです。そのため、セグメントの最後のトークンだけを調べていると、この間違いに気づけません。
# 2. トークン0まで届きます。アテンションはセグメントで終わり、それより古いものは、メモリだけを通って届きます（灰色の棒）。
# 3. 何個でも止められません。それを決めるのはマスクで、前に何が並んでいるかではないからです。
#
# </details>
#
# ## 7. メモリにはどれだけの価値があるか
#
# では、訓練してみましょう。課題はキーと値の想起（key-value recall）です。
# キーと値のペア（pair）を4つひと続きに伝え、無関係なトークン、つまり雑音（noise）を流してから、各キーについてたずねます。
# キーも値も1トークンで、値は8種類です。セグメントは8トークンなので、ペアを伝えるだけで1セグメントが埋まり、
# 質問が来るころには、アテンションからはもう見えません。
#
# **実行する前に予想してみましょう。**
# メモリのないモデルの正解率（accuracy）は、どれくらいになるでしょうか。
# 出力の「right answers」が正解率、「steps」が訓練のステップ数です。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
run = trials.RUN
trained = {"MAC": trials.train_variant(run)}
last = trained["MAC"].history[-1][2]
print(f"{trained['MAC'].steps} steps, right answers: {last:.0%}")

# %% tags=["nbval-ignore-output"]
no_memory = trials.without_memory(run)
trained["without memory"] = trials.train_variant(no_memory)
last = trained["without memory"].history[-1][2]
print(f"without memory, right answers: {last:.0%}")

# %% [markdown] lang="en"
# Without the memory it guesses: one in eight. Nothing that was told is within its reach, and no training changes that.
# With the memory it finds the pairs again, although attention never sees question and telling together.
#
# A larger model of the same kind comes with this course: six pairs, 32 keys and values, segments of 16, trained on
# sequences of at most 80 tokens. Here it is asked after 1,000 tokens, 62 segments later.

# %% [markdown] lang="ja" en="5a8a80a5"
# メモリがないと当てずっぽうと同じで、8回に1回しか当たりません。
# 伝えられたペアは、もうどこからも見えないので、どれだけ訓練しても変わりません。
# メモリがあれば、アテンションから質問とペアが同時に見えることは一度もないのに、モデルはペアを思い出せます。
#
# この教材には、同じ種類で、もっと大きな学習済みのモデルが付いています。ペアは6つ、キーと値は32種類ずつ、セグメントは16トークンで、
# 訓練で読んだ系列は長くても80トークンですが、ここでは、1,000トークン後、つまり62セグメント先でたずねます。
# 出力の「right after 1,000 tokens」はその正解率、「without memory」はメモリのないモデルの正解率です。

# %% tags=["nbval-ignore-output"]
assert trained["MAC"].history[-1][2] > 0.85
assert trained["without memory"].history[-1][2] < 0.3

shipped, _, _ = load_checkpoint("recall-live/mac")
bare, _, _ = load_checkpoint("recall-live/attention")
with_memory = share_right(shipped, Recall(), between=1000)
without = share_right(bare, Recall(), between=1000)
print(f"right after 1,000 tokens: {with_memory:.1%}")
print(f"without memory:           {without:.1%}")
assert with_memory > 0.95
assert without < 0.1

# %% [markdown] lang="en"
# ### Which of the two reads does it?
#
# MAC reads its memory twice: as context, $h$, and at the end, $M^*_t(y_t)$. The block is named after the first.
#
# **Predict before you run.** Switch $h$ off in the trained models: its scale is set to zero, so that attention sees
# empty tokens where the retrieved ones were. How many answers are lost?

# %% [markdown] lang="ja" en="91da188a"
# ### 2つの読み出しのうち、働いているのはどちらか
#
# MAC はメモリを、コンテキストとしての $h$ と、最後の $M^*_t(y_t)$ の2回読みます。ブロックの名前は1つ目からきています。
#
# **実行する前に予想してみましょう。**
# 学習済みのモデルで、$h$ を切ってみます。スケールをゼロにするので、アテンションから見て、読み出したトークンの場所にはゼロしかなくなります。
# 正解は、どれだけ減るでしょうか。
#
# 出力の「trained here」はいま訓練したモデル、「shipped」は教材に付いているモデルで、「without h」は切ったときの正解率です。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
models = {
    "trained here": (trained["MAC"].model, trials.TASK, 20),
    "shipped": (shipped, Recall(), 56),
}
h_off = {}
for name, (model, task, between) in models.items():
    before = share_right(model, task, between)
    after = share_right(without_h(model), task, between)
    print(f"{name}: {before:.1%}, without h {after:.1%}")
    h_off[name] = before - after

# %% [markdown] lang="en"
# Hardly any. On this task (pairs told in one stretch, a model of one layer) the answers come from the last read. That
# is worth knowing before you explain a result by "memory as context". It is a fact about recall, where nothing has to
# be *done* with what was retrieved. With two layers, or where an answer combines several facts, it may differ. You have
# the tool to find out.
#
# ### What the positions of $h$ are for
#
# In section 3 each $h_j$ got the position of its token (D4). Why? It is what the memory answered when token $j$ asked,
# and nothing in an answer needs to say who asked. So let one attention learn one thing: to hand each of 8 tokens its
# own $h$, where $x$ and $h$ are random and have nothing in common.
#
# **Predict before you run.** It is trained twice, with positions and without. What is the best that it can do without?

# %% [markdown] lang="ja" en="32764e2d"
# 正解はほとんど減りません。この課題（ペアはひと続きに伝え、モデルは1層）では、答えは最後の読み出しから来ているのです。
# このことは、結果を「コンテキストとしてのメモリ」で説明する前に、知っておく価値があります。
# ただし、想起の課題では、読み出したものを使ってさらに何かを**する**必要がありません。
# 2層のモデルや、いくつかの事実を組み合わせて答える課題では、違うかもしれません。それを調べる道具は、もう手元にあります。
#
# ### $h$ の位置は何のためにあるか
#
# 3節で $h_j$ にそのトークンの位置を与えたのは（D4）、なぜでしょうか。
# 読み出したトークンは、トークン $j$ がたずねたときのメモリの答えですが、答えを見ても、どのトークンがたずねたのかはわかりません。
# そこで、1つのアテンションに、8個のトークンのそれぞれに自分の $h$ を渡すことだけを学習させてみます。
# $x$ と $h$ は乱数で、互いに何の関係もありません。
#
# **実行する前に予想してみましょう。**
# 位置がある場合とない場合の2通りで訓練します。位置がないときは、せいぜい何ができるでしょうか。


# %%
predict("...")


# %%
def own_answer(positions, steps=300, tokens=8, dim=16):
    W_Q, W_K = torch.nn.Linear(dim, dim), torch.nn.Linear(dim, dim)
    optimizer = torch.optim.Adam([*W_Q.parameters(), *W_K.parameters()], 0.03)
    past = torch.ones(tokens, tokens).tril().bool()
    for _ in range(steps):
        x, h = torch.randn(2, 32, tokens, dim)
        q, k = W_Q(x), W_K(h)
        if positions:
            q, k = rotate(q, 0), rotate(k, 0)
        scores = (q @ k.mT / dim**0.5).masked_fill(~past, -torch.inf)
        loss = (scores.softmax(-1) @ h - h).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


# %% tags=["nbval-ignore-output"]
assert max(h_off.values()) < 0.1

torch.manual_seed(0)
average = sum(1 - 1 / seen for seen in range(1, 9)) / 8
with_positions, without_positions = own_answer(True), own_answer(False)
print(f"squared error with positions:    {with_positions:.2f}")
print(f"squared error without positions: {without_positions:.2f}")
print(f"of an average of all h seen:     {average:.2f}")

# %% [markdown] lang="en"
# Without positions it fails, and no training can help. Exchange two of the $h$: softmax gives the same answer. They are a
# set, and the best that a token can do is the average of those that it sees. An average of $n$ random vectors
# has a squared error of $1 - \tfrac1n$ for each of them; the mean of that for $n = 1$ to 8 is the last line of the output.
#
# A whole model may do without, if something else does the work. On recall that is the last read, as you have just seen.
# So there the positions of $h$ should not matter. Here is the same training of MAC, but $h$ has no positions.

# %% [markdown] lang="ja" en="f4037e0b"
# 位置がないと失敗し、どれだけ訓練してもうまくいきません。2つの $h$ を入れ替えても softmax の答えは同じで、
# アテンションから見ると、順序のない集合にすぎないからです。そのため、トークンにできるのは、せいぜい、見えているものの平均をとることです。
# $n$ 個のランダムなベクトルの平均と、そのうちの1つとの2乗誤差は $1 - \tfrac1n$ で、
# これを $n = 1$ から8まで平均したものが、出力の最後の行です。
# 最初の2行は、位置がある場合（with positions）とない場合（without positions）の2乗誤差です。
#
# ただし、モデル全体で見れば、ほかの部分が働いているときは、位置がなくても困りません。
# 想起の課題で働いているのは、先ほど見たように最後の読み出しなので、$h$ の位置は関係しないはずです。
# これを確かめるために、$h$ に位置を与えずに、MAC で同じ訓練をしてみます。

# %% tags=["nbval-ignore-output"]
assert with_positions < 0.05
assert abs(without_positions - average) < 0.1

trained["h without positions"] = trials.train_variant(
    run, leaky_mac.PositionlessH
)
last = trained["h without positions"].history[-1][2]
print(f"h without positions, right answers: {last:.0%}")
assert last > 0.85

# %% [markdown] lang="en"
# They make no difference here. They are kept for tasks in which the context has to do the work.
#
# ### What ties a key to its value?
#
# A key and its value are two neighbouring tokens, and a write binds *one* key vector to *one* value vector. So some
# token must have both when it is written. Two parts of the block look back at earlier tokens: attention, and the small
# convolution in `project`. The order of the six steps speaks for attention. What is written is $y$, not $x$, and
# attention could make of it "this value, after that key".
#
# **Predict before you run.** Switch one part at a time off in the trained models. Without which are the answers lost?
# Where attention is off, nothing is added to $x$. "Looking back" is the part of the convolution that is not the token
# itself. A third model joins in: it was trained on pairs told in one stretch and on pairs *scattered* in the noise, and is
# asked for scattered ones.

# %% [markdown] lang="ja" en="9cf2473a"
# この課題では、位置があってもなくても変わりません。それでも位置を与えておくのは、コンテキストが働かなければ解けない課題のためです。
#
# ### キーと値を結びつけているのは何か
#
# キーと値は隣り合う2つのトークンですが、1回の書き込みで結びつけられるのは、**1つ**のキーのベクトルと**1つ**の値のベクトルです。
# ですから、どれかのトークンが、書き込まれる時点でその両方を持っていなければなりません。
# ブロックの中で前のトークンを見る部分は、アテンションと、`project` の中の小さな畳み込みの2つです。
# 6つの手順の順序を見ると、結びつけているのはアテンションのように思えます。
# 書き込まれるのは $x$ ではなく $y$ なので、アテンションが、値のトークンを「あのキーの後の、この値」という内容に変えておけるからです。
#
# **実行する前に予想してみましょう。**
# 学習済みのモデルで、部品を1つずつ切っていくと、どれを切ったときに答えられなくなるでしょうか。
# アテンションを切った場合（attention）は、$x$ に何も足されません。
# 「looking back」は畳み込みのうち前のトークンを見る部分で、クエリ（queries）、キー（keys）、値（values）のそれぞれについて切ります。
# ほかに、出力ゲート（the output gate）、最後の読み出し（the last read）、残差接続（the residual）なども切ります。
#
# ここではモデルをもう1つ加え、3つのモデルで調べます。3つ目（scattered）は、ペアをひと続きに伝える場合と、
# ペアが雑音の中に**散らばっている**場合の両方で訓練したモデルで、散らばったペアについてたずねます。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
both, _, _ = load_checkpoint("recall-both/matrix")
models["scattered"] = (both, ScatteredRecall(), 56)
off = {
    name: {
        part: share_right(copy, task, between)
        for part, copy in trials.parts_off(model).items()
    }
    for name, (model, task, between) in models.items()
}

# %%
print(f"{'without':22}", *(f"{name:>13}" for name in off))
for part in off["shipped"]:
    print(f"{part:22}", *(f"{shares[part]:13.1%}" for shares in off.values()))

# %% [markdown] lang="en"
# It is not attention: all of it may go, and nearly every answer stays. What no model can do without is the last read,
# the residual, and **keys that look back**. The convolution, a detail of section 4.4, is what ties.
#
# The values differ. One model needs them to look back, the others do not. How far does each look? The convolution is
# four tokens wide, the token itself and three before it. Take one of the four places away at a time.
#
# **Predict before you run.** A key stands in token $t$, its value in token $t + 1$. Which token writes the pair, and how
# far back must its key and its value look?

# %% [markdown] lang="ja" en="145de890"
# 答えは、アテンションではありませんでした。アテンションは、すべて切っても、ほとんどの質問に答えられます。
# 3つのモデルのどれにも欠かせないのは、最後の読み出しと、残差接続と、**キーが前のトークンを見ること**です。
# つまり、キーと値を結びつけているのは、論文の4.4節に短く書かれているだけの畳み込みです。
#
# 値のほうはモデルによって違い、値も前を見る必要があるモデルは1つだけで、ほかの2つでは必要ありません。
# では、それぞれ何トークン前を見ているのでしょうか。
# 畳み込みの幅は4で、トークン自身とその前の3トークンを見るので、この4か所を1つずつ取り除いてみます。
#
# **実行する前に予想してみましょう。**
# キーがトークン $t$、その値がトークン $t + 1$ にあるとします。
# このペアを書き込むのはどのトークンで、そのキーと値は、それぞれ何トークン前を見なければならないでしょうか。
#
# 出力の「0 back」から「3 back」は、それぞれ0〜3トークン前を見られなくしたときの正解率です。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
for shares in off.values():
    assert min(shares["attention"], shares["queries looking back"]) > 0.9
    for part in ("the last read", "the residual", "keys looking back"):
        assert shares[part] < 0.35

needed = {}
for name, (model, task, between) in models.items():
    print(f"{name:12}", *(f"{back} back" for back in range(4)))
    for part, shares in trials.taps_lost(model, task, between).items():
        print(f"  {part:10}", *(f"{share:6.0%}" for share in shares))
        needed[name, part] = shares.index(min(shares))

# %% [markdown] lang="en"
# There are two ways. In the model trained here the *value's* token writes: the value is its own, and the key comes from
# one token back. In the shipped one it is the token *behind* the pair: the key comes from two tokens back and the value
# from one. The third model is like the first. Nobody told them. What they share is that the key comes from one token
# further back than the value, as the pair was told. And no look back helps a query: the token that asks is the key.
#
# Here is the example of lesson 00 again: six facts told to the shipped model in tokens 0 to 11, and filler. Its writers
# should be tokens 2, 4, ... 12. Look at $\theta$ there.

# %% [markdown] lang="ja" en="d4a95bd8"
# ペアの書き込み方は2通りありました。
# ここで訓練したモデルでは、**値**のトークンがペアを書き込むので、値はそのトークン自身から、キーは1トークン前から来ます。
# 教材に付いているモデルでは、ペアの**次**のトークンが書き込むので、キーは2トークン前から、値は1トークン前から来ます。
# 3つ目のモデルは、1つ目と同じでした。どのモデルも書き込み方を教えられたわけではありませんが、
# 伝えられた順序のとおり、キーが値より1トークン前から来ることは共通しています。
# クエリにとっては、前を見ても助けになりません。たずねるトークンが、キーそのものだからです。
#
# レッスン00の例を、もう一度見てみましょう。教材に付いているモデルに、トークン0〜11で6つの事実を伝え、
# 埋め草（filler）を続けたときの記録です。
# 書き込むのはトークン2、4、…、12のはずなので、それらのトークンで $\theta$ がどうなっているかに注目してください。

# %% tags=["nbval-ignore-output"]
for name, writer in (("trained here", 1), ("shipped", 2), ("scattered", 1)):
    assert needed[name, "key"] == writer
    assert needed[name, "value"] == writer - 1
assert {needed[name, "query"] for name in models} == {0}

tokens, spans = traces.six_facts()
theta = traces.trace(shipped, tokens).theta
assert all(theta[t] > theta[t - 1] for t in range(2, 13, 2))
traces.gates_and_surprise(shipped, tokens, spans)

# %% [markdown] lang="en"
# $\theta$ goes up and down while the facts are told: each writer takes a larger step than the token before it. At token
# 16, where the segment ends, the steps become small.
#
# ### But does training need attention?
#
# A part may be idle in the end and have been needed on the way there. So train MAC twice more, with a part missing from
# the first step on. In the first training attention adds nothing, so $x$ itself is written. In the second the
# convolutions are one token wide, and attention is the only part that can look back.
#
# **Predict before you run.** Which of the two learns the task?

# %% [markdown] lang="ja" en="fca22451"
# 事実を伝えている間、$\theta$ は1トークンごとに上下し、書き込むトークンのステップ幅は、その1つ前のトークンより大きくなっています。
# セグメントが終わって次に移るトークン16からは、ステップ幅が小さくなります。
#
# ### では、訓練にはアテンションが必要か
#
# ある部品が、訓練の終わったモデルでは働いていなくても、訓練の途中では必要だったということもありえます。
# そこで、最初のステップから部品を1つ外して、MAC をあと2回訓練します。
# 1回目は、アテンションが何も足さないようにして、$x$ そのものを書き込みます（without attention）。
# 2回目は、畳み込みの幅を1トークンにして、前のトークンを見られる部分をアテンションだけにします（without convolution）。
#
# **実行する前に予想してみましょう。** 課題を学習できるのは、どちらでしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
trained["without attention"] = trials.train_variant(
    run, leaky_mac.WithoutAttention
)
trained["without convolution"] = trials.train_variant(
    trials.without_convolution(run)
)
for name in ("without attention", "without convolution"):
    print(f"{name}, right answers: {trained[name].history[-1][2]:.0%}")

# %% [markdown] lang="en"
# Without attention it learns as MAC does. Without the convolution it gets to little more than half.
#
# ### What the residual is for
#
# One thing in section 3 was not in the equations: `x +` around attention (D13). Train without it, with the convolution
# back in its place. What is written is then a blend of what attention sees, and nothing else.
#
# **Predict before you run.** Does the model learn?

# %% [markdown] lang="ja" en="96258258"
# アテンションがなくても、MAC と同じように学習できましたが、畳み込みがないと、正解率は半分を少し超えたところで止まっています。
#
# ### 残差接続は何のためにあるか
#
# 3節のブロックには、式にないものが1つだけありました。アテンションのまわりの `x +` です（D13）。
# 畳み込みは元に戻し、今度はこれだけを外して訓練します。
# すると、書き込まれるのは、アテンションから見えるものを混ぜ合わせただけのものになります。
#
# **実行する前に予想してみましょう。** これでも、モデルは課題を学習できるでしょうか。

# %%
predict("...")

# %% tags=["nbval-ignore-output"]
assert trained["without attention"].history[-1][2] > 0.85
assert 0.4 < trained["without convolution"].history[-1][2] < 0.75

trained["without residual"] = trials.train_variant(
    run, leaky_mac.WithoutResidual
)
last = trained["without residual"].history[-1][2]
print(f"without residual, right answers: {last:.0%}")

# %%
assert 0.4 < last < 0.75
pictures.curves(trained)

# %% [markdown] lang="en"
# (A training ends when 94 % are right. Three of the curves lie on each other, or nearly.) Without the convolution and
# without the residual the curves stop near the same peculiar share, far above guessing and far below MAC. Which
# half-knowledge would give that?
#
# Suppose you know *which values were told*, but not to which keys they belong. You pick one of the $n$ values that are
# left; when an answer is shown, you cross it off. You are right once in $n$ times, and otherwise once in 8, since two
# values may happen to be equal:

# %% [markdown] lang="ja" en="781bdb42"
# （正解率が94%になると訓練は終わります。曲線のうち3本は、ほとんど重なっています。）
# 畳み込みがない場合と残差接続がない場合は、どちらの曲線も同じくらいの正解率で止まっています。
# これは、当てずっぽうよりはるかに高く、MAC よりはるかに低い値です。どんな「半分だけの知識」があれば、こうなるのでしょうか。
#
# **どの値が伝えられたか**は知っていても、それがどのキーの値かは知らないとします。
# 残っている $n$ 個の値から1つを選んで答え、正解が示されるたびにその値を候補から消していくと、$n$ 回に1回は当たります。
# さらに、ほかのペアの値を選んだ場合でも、その値が8回に1回は正解とたまたま等しくなります。
# 出力の「question 1 to 4」は質問1から4までの正解率、「altogether」は全体の正解率です。

# %%
shares = [1 / n + (1 - 1 / n) / 8 for n in (4, 3, 2, 1)]
print("question 1 to 4:", [f"{share:.0%}" for share in shares])
print(f"altogether: {sum(shares) / 4:.0%}")

# %% [markdown] lang="en"
# If a model does that, its answers must name values that were told, and get better from question to question as fewer
# are left. Ask them:

# %% [markdown] lang="ja" en="bf698eca"
# モデルがこのとおりにしているなら、答えは伝えた値のどれかになり、質問が進んで候補が減るほど、よく当たるはずです。
# 確かめてみましょう。出力の「right」は質問1から4までの正解率、「told」は答えが伝えた値のどれかだった割合です。

# %% tags=["nbval-ignore-output"]
for name in ("MAC", "without convolution", "without residual"):
    right, told = trials.by_question(trained[name].model)
    print(name)
    print("  right, question 1 to 4:", [f"{share:.0%}" for share in right])
    print("  told,  question 1 to 4:", [f"{share:.0%}" for share in told])
    assert min(told) > 0.85
    assert (right[-1] > right[0] + 0.2) == (name != "MAC")

# %% [markdown] lang="en"
# That is the pattern of someone who crosses off: nearly all answers were told, and the last question is far easier than
# the first. Both memories hold the values, without their keys. Is it so at another size, too? A MAC of this course
# was trained without convolution on six pairs and 32 values, for 400 steps; its share is below.
#
# Without the convolution no token has both key and value. But why does the convolution not help without the residual?
# It mixes neighbours, and if each of them is a blend, there is nothing left to tell them apart. That can be tested. Let
# attention pass on a blend and nothing else: its two matrices $W_V$ and $W_O$ begin as the identity. It differs from
# "without attention", which writes $x$, by the blending alone.

# %% [markdown] lang="ja" en="035bac51"
# これは、候補を消しながら答える場合と同じ傾向で、答えのほとんどは伝えた値であり、最後の質問は最初の質問よりずっと当たりやすくなっています。
# どちらのモデルのメモリも、値だけを覚えていて、それがどのキーの値かは覚えていません。
# この正解率の関係が大きさの違うモデルでも成り立つかどうかを、
# 教材に付いている、畳み込みなしで訓練した MAC（ペアは6つ、値は32種類、訓練は400ステップ）でも確かめます。
#
# 畳み込みがないと、キーと値の両方を持つトークンがありません。では、畳み込みがあっても、残差接続がないとうまくいかないのはなぜでしょうか。
# 畳み込みは隣のトークンと混ぜ合わせますが、どのトークンもすでに平均になっていれば、書き込む時点で、どのキーかという情報が残っていません。
# この説明を実験で確かめるために、アテンションの2つの行列 $W_V$ と $W_O$ を単位行列から始め、見えるものを混ぜ合わせるだけにしてみます（a plain blend）。
# $x$ を書き込む「アテンションなし」との違いは、混ぜ合わせることだけです。
#
# 出力の「six pairs, without convolution」は畳み込みのない MAC の正解率、「crossing off」は候補を消しながら答える場合の正解率です。

# %% tags=["nbval-ignore-output"]
larger, _, _ = load_checkpoint("ablation/no-convolution")
measured = share_right(larger, Recall(), between=56)
shares = [trials.crossing_off(n, values=32) for n in range(1, 7)]
expected = sum(shares) / 6
print(f"six pairs, without convolution: {measured:.1%}")
print(f"six pairs, crossing off:        {expected:.1%}")
assert abs(measured - expected) < 0.05

blended = trials.train_variant(run, leaky_mac.PlainAverage).history[-1][2]
print(f"a plain blend: {blended:.0%}")
assert 0.4 < blended < 0.75

# %% [markdown] lang="en"
# The blend alone is enough to stop it. So a token must still be itself when it is written, for the convolution to tie
# it to its neighbour. `x +` sees to that.
#
# ## 8. Questions
#
# **What if the input is shorter than a segment, or than a chunk?** Nothing waits for a border. Each token is written
# and read at once; a border only moves the weights at which gradients are taken, or what attention sees.

# %% [markdown] lang="ja" en="4e473f58"
# 見えるものを混ぜ合わせるだけで、学習は途中で止まってしまいました。
# 畳み込みで隣のトークンと結びつけるには、書き込む時点で、どのキーかという情報が残っていなければなりません。
# アテンションだけでは平均されて消えますが、`x +` があれば残ります。
#
# ## 8. 質問
#
# **入力がセグメントやチャンクより短いと、どうなりますか。**
# どのトークンも、境目まで待たずにすぐに書き込まれ、すぐに読まれるので、
# 境目で変わるのは、勾配をとる重みと、アテンションから見える範囲だけです。
# 次の出力の「written」は書き込まれたかどうか、「as in the whole」は全体を読んだときと同じ出力かどうかを表します。

# %%
for tokens in (1, 3, 6):
    o, state = mac(x[None, :tokens], mac.initial_state(batch=1))
    moved = state.memory.weights[0] - W["memory.memory.weights.0"]
    unchanged = same(o, by_library[:, :tokens])
    print(
        f"{tokens} tokens: written {bool(moved.abs().max() > 0)}, "
        f"as in the whole {unchanged}"
    )
    assert moved.abs().max() > 0
    assert unchanged

# %% [markdown] lang="en"
# **Chunk or segment, which is which?** Change one at a time, with the same weights, and look for the first output that
# differs from ours.

# %% [markdown] lang="ja" en="5f172a7b"
# **チャンクとセグメントは、どう違いますか。**
# 同じ重みのまま1つずつ変えて、最初に変わる出力を探してみましょう。
# 出力の「from token 2 on」は、トークン2から先の出力が変わったという意味です。

# %%
for chunk, segment, expected in ((4, 4, 2), (2, 8, 4), (2, 3, 3)):
    other = trials.resized(mac, config, chunk, segment)
    o, _ = other(x[None], other.initial_state(batch=1))
    changed = (o - by_library).abs().amax((0, 2)) > 1e-10
    first = int(changed.nonzero()[0])
    print(f"chunk {chunk}, segment {segment}: from token {first} on")
    assert first == expected

# %% [markdown] lang="en"
# With chunks of 4 in place of 2, token 2 is the first whose gradient is taken at other weights. With segments of 8,
# token 4 is the first that sees more: it used to begin a segment. With segments of 3, token 3 is the first that sees
# less. The two have nothing to do with each other; a chunk may even be longer than a segment.
#
# **Is there one memory per sequence, per layer, per head?** All three.

# %% [markdown] lang="ja" en="e0b31680"
# チャンクを2から4にすると、トークン2で初めて、勾配をとる重みが変わります。
# セグメントを8にすると、それまでセグメントの最初だったトークン4で初めて、見えるトークンが増えます。
# セグメントを3にすると、今度はトークン3で初めて、見えるトークンが減ります。
# チャンクとセグメントは互いに無関係で、チャンクのほうがセグメントより長くてもかまいません。
#
# **メモリは、系列ごと、層ごと、ヘッドごとに1つですか。** はい、その3つのそれぞれについて1つです。

# %%
model = TitansLM(
    TitansConfig(dim=64, layers=3, memory_heads=2, memory_depth=1)
)
state = model.initial_state(batch=5)
print(len(state.layers), "layers, and in each a memory of the shape")
print(list(state.layers[0].memory.weights[0].shape), "[batch, heads, d, d]")

# %% [markdown] lang="en"
# **Is the memory read before or after the write?** Both. $h$ is read with the weights from before the segment: these
# tokens are to look *back*. $o$ is read right after the token's own write.
#
# **Why is $y$ written and not $x$?** Equation 24 has it so, and attention may put a token into its context before it is
# written. On this task nothing comes of it: trained with $x$ written instead, the model answers as well (section 7).
#
# **In which order does MAC do things?** Read, concatenate, attend, write, read, gate: section 1's picture.
#
# ## Summary
#
# - MAC reads its memory into the context of a segment, attends over $[\,P \,\Vert\, h \,\Vert\, S\,]$, writes what came
#   out, and gates it with a second read.
# - Taken literally, the equations leak the future twice: through $h$, which carries the token that asked, and through
#   a memory that has read the whole segment. Each rule alone still leaks; both together give exactly 0.
# - A segment is what attention sees, a chunk is where gradients are taken. Neither delays a write.
# - The same model without the memory guesses. With it, attention of 8 tokens answers about what lies far before.
# - On this task the last read does the work, and $h$ hardly any. Where $h$ has to do it, it needs positions: without
#   them it is a set, and a token gets the average of all.
# - What ties a key to its value is the convolution of the keys, which looks one token further back than that of the
#   values. On this task attention may be switched off, after training and even before it.
# - Without the convolution, or without a residual around attention, the memory learns which values were told, but not
#   whose they are.
#
# ## References
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663), section 4.1, equations 21 to 25, figure 3 and section 4.4.
# - J. Su et al.: *RoFormer*, arXiv [2104.09864](https://arxiv.org/abs/2104.09864): rotary positions.
# - S. Arora et al.: *Zoology*, arXiv [2312.04927](https://arxiv.org/abs/2312.04927): recall of pairs as a measure of
#   sequence models.

# %% [markdown] lang="ja" en="db9d9f0c"
# **メモリを読むのは、書き込みの前ですか、後ですか。** 両方です。
# $h$ は過去を**振り返る**ためのトークンなので、セグメントの前の重みで読み、
# $o$ を求めるときは、そのトークン自身を書いた直後の重みで読みます。
#
# **書き込むのが $x$ ではなく $y$ なのは、なぜですか。**
# 式(24)がそうなっているからで、書き込む前に、アテンションでトークンに文脈を加えられます。
# ただし、この課題では効果がありません。$x$ を書き込むように訓練したモデルも、同じくらいよく答えます（7節）。
#
# **MAC は、どの順序で処理しますか。** 読み、連結し、アテンションをかけ、書き、もう一度読み、ゲートを通します。1節の図のとおりです。
#
# ## まとめ
#
# - MAC は、メモリから読み出したものをセグメントのコンテキストに加え、$[\,P \,\Vert\, h \,\Vert\, S\,]$ にアテンションをかけます。
#   その結果を書き込み、2回目の読み出しとゲートで合わせます。
# - 式を文字どおりに読むと、未来が2か所で漏れます。1つは、たずねたトークンの情報が入っている $h$ で、
#   もう1つは、セグメント全体を読み終えたメモリです。規則が片方だけではまだ漏れますが、両方あれば、漏れはちょうど0になります。
# - セグメントはアテンションで見える範囲を、チャンクは勾配をとる重みを決めます。どちらも、書き込みを遅らせません。
# - 同じモデルでも、メモリがないと当てずっぽうになります。メモリがあれば、アテンションで8トークンしか見えなくても、ずっと前のことを答えられます。
# - この課題で働いているのは最後の読み出しで、$h$ はほとんど働いていません。
#   $h$ を使わなければならない課題では位置が必要で、位置がないと順序のない集合になるので、トークンには全部の平均しか渡りません。
# - キーと値を結びつけているのは、キーの畳み込みで、値の畳み込みより1トークン前を見ています。
#   この課題では、アテンションは、訓練の後だけでなく、訓練の最初から切ってもかまいません。
# - 畳み込みがないか、アテンションのまわりの残差接続がないと、メモリは、どの値が伝えられたかは覚えますが、どのキーの値かは覚えられません。
#
# ## 参考文献
#
# - A. Behrouz, P. Zhong, V. Mirrokni: *Titans: Learning to Memorize at Test Time*, arXiv
#   [2501.00663](https://arxiv.org/abs/2501.00663)。4.1節、式(21)〜(25)、図3、4.4節。
# - J. Su et al.: *RoFormer*, arXiv [2104.09864](https://arxiv.org/abs/2104.09864)。回転位置埋め込みの原典です。
# - S. Arora et al.: *Zoology*, arXiv [2312.04927](https://arxiv.org/abs/2312.04927)。
#   系列モデルを、ペアの想起で評価した論文です。

# %% tags=["nbval-ignore-output"]
progress()
