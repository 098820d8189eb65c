"""Run by torchrun: trains a model whose blocks are sharded over the processes, and compares with one that is not."""

from __future__ import annotations

import gc

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from titans import TitansConfig, TitansLM


def train(model: TitansLM, batches: list[torch.Tensor]) -> list[float]:
    """The losses of some steps."""
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1), []
    for tokens in batches:
        loss = model(tokens, labels=tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def compare() -> None:
    """Every variant, alone and together."""
    rank = dist.get_rank()
    for variant in ("mac", "mag", "mal", "lmm", "attention"):
        torch.manual_seed(0)
        alone = TitansLM(TitansConfig(variant, vocab_size=50, dim=16, layers=2))
        together = TitansLM(TitansConfig(variant, vocab_size=50, dim=16, layers=2))
        together.load_state_dict(alone.state_dict())
        for block in together.blocks:
            fully_shard(block)
        fully_shard(together)
        batches = [torch.randint(50, (4, 20)) for _ in range(3)]  # the same in both processes
        want, got = train(alone, batches), train(together, [tokens[2 * rank : 2 * rank + 2] for tokens in batches])
        for one, both in zip(want, got, strict=True):  # each process has half of the rows
            mean = torch.tensor(both)
            dist.all_reduce(mean)
            assert abs(float(mean) / 2 - one) < 1e-4, (variant, one, float(mean) / 2)
        for (name, weight), sharded in zip(alone.named_parameters(), together.parameters(), strict=True):
            assert isinstance(sharded, DTensor)
            torch.testing.assert_close(sharded.full_tensor(), weight, rtol=1e-4, atol=1e-5, msg=f"{variant}, {name}")


def main() -> None:
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    compare()
    print("trained as one", flush=True)
    gc.collect()  # the models go before the group that they hold, which torch may not survive the other way round
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
