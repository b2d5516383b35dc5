from __future__ import annotations

import re
import stat

import pytest

from gemmad.config.models import ModelName
from gemmad.hub.fetch import RETRIES
from gemmad.hub.problems import (
    DamagedError,
    DiskFullError,
    NoAccessError,
    StoppedError,
    UnknownModelNameError,
    UnreachableError,
    UnsuitableError,
)
from gemmad.hub.pull import Pull
from gemmad.hub.store import Model, Store
from gemmad.text.checkpoint import TextModel
from tests.fakes.hub import FakeHub
from tests.unit.hub.conftest import NAME, Puller

WEIGHTS = "model.safetensors"
HALF = 2_000_000


def test_a_fresh_pull(puller: Puller, hub: FakeHub, store: Store) -> None:
    """A pull brings the files that gemmad needs and no other, byte for byte, into a folder that anybody may read."""
    outcome = puller().run()
    assert outcome.folder == store.folder / "google--gemma-3-demo"
    here = {path.name for path in outcome.folder.iterdir()}
    assert here == set(hub.files) - {"README.md", "pytorch_model.bin", "tokenizer.model"} | {".gemmad.json"}
    assert all((outcome.folder / name).read_bytes() == hub.files[name] for name in here - {".gemmad.json"})
    assert outcome.fetched_bytes == outcome.bytes == sum(len(hub.files[name]) for name in here - {".gemmad.json"})
    assert TextModel.load(outcome.folder).vocab_size
    assert {stat.S_IMODE(path.stat().st_mode) for path in outcome.folder.iterdir()} == {0o644}
    assert stat.S_IMODE(outcome.folder.stat().st_mode) == 0o755
    assert not any((store.folder / ".pulling").iterdir())


def test_the_store_knows_where_it_is_from(puller: Puller, hub: FakeHub, store: Store) -> None:
    """What was pulled is listed with its name, size, commit and time."""
    puller().run()
    (model,) = store.models()
    assert model.name == NAME
    assert model.complete
    assert model.manifest is not None
    assert (model.manifest.repo, model.manifest.commit) == (NAME.repo, hub.commit)
    assert model.manifest.pulled_at > 1_700_000_000
    assert model.bytes > 4_000_000


def test_a_second_pull_fetches_nothing(puller: Puller, hub: FakeHub) -> None:
    """What is there already is not fetched again, and nobody is asked whether it may be replaced."""
    puller().run()
    hub.asked.clear()

    def never(model: Model) -> None:
        raise AssertionError(model)

    assert puller().run(before_replacing=never).fetched_bytes == 0
    assert hub.asked == []


def test_a_cut_is_gone_on_from(puller: Puller, hub: FakeHub) -> None:
    """A connection that ends early is opened again for what is missing, within the same pull."""
    hub.cut_after = {WEIGHTS: [HALF, 100]}
    outcome = puller().run()
    assert (outcome.folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert hub.requests_of(WEIGHTS) == [None, f"bytes={HALF}-", f"bytes={HALF + 100}-"]


def test_a_new_pull_goes_on_where_the_last_ended(puller: Puller, hub: FakeHub, store: Store) -> None:
    """A pull that gave up leaves what came; until the rest has come, too, nothing is there to be served."""
    hub.cut_after = {WEIGHTS: [HALF, *[0] * (RETRIES + 1)]}
    with pytest.raises(UnreachableError):
        puller().run()
    assert store.find(NAME) is None
    (unfinished,) = store.models()
    assert not unfinished.complete
    assert unfinished.bytes > HALF
    hub.asked.clear()
    hub.cut_after.clear()
    outcome = puller().run()
    assert hub.asked == [(WEIGHTS, f"bytes={HALF}-")]
    assert outcome.fetched_bytes == len(hub.files[WEIGHTS]) - HALF
    assert (outcome.folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_a_hub_without_ranges(puller: Puller, hub: FakeHub) -> None:
    """Where the rest of a file cannot be asked for, its beginning is read past."""
    hub.knows_ranges = False
    hub.cut_after = {WEIGHTS: [HALF]}
    assert (puller().run().folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_pauses_grow_and_end(puller: Puller, hub: FakeHub) -> None:
    """A hub that is out of order is asked again after growing pauses, and then given up."""
    pauses: list[float] = []
    hub.failing = 3
    puller(pause=pauses.append).run()
    assert pauses == [0.5, 1.0, 2.0]
    hub.files["config.json"] += b"\n"
    hub.failing = 1000
    with pytest.raises(UnreachableError, match="answers HTTP 503"):
        puller(pause=pauses.append).run()


@pytest.mark.parametrize("file", [WEIGHTS, "tokenizer.json"])
def test_a_wrong_checksum(puller: Puller, hub: FakeHub, store: Store, file: str) -> None:
    """A file that is not what the hub says it is, twice, is thrown away and never served, whatever stores it there."""
    content = bytearray(hub.files[file])
    content[len(content) // 2] ^= 1
    hub.lies = {file: bytes(content)}
    with pytest.raises(DamagedError, match=re.escape(file)):
        puller().run()
    assert len(hub.requests_of(file)) == 2
    assert store.find(NAME) is None
    hub.lies.clear()
    assert (puller().run().folder / file).read_bytes() == hub.files[file]


def test_a_damaged_beginning_is_found(puller: Puller, hub: FakeHub, store: Store) -> None:
    """What an earlier pull left is part of the checksum: if it is wrong, the whole file is fetched anew."""
    hub.cut_after = {WEIGHTS: [HALF, *[0] * (RETRIES + 1)]}
    with pytest.raises(UnreachableError):
        puller().run()
    part = store.folder / ".pulling" / NAME.folder_name / f"{WEIGHTS}.part"
    part.write_bytes(b"\0" * HALF)
    hub.cut_after.clear()
    assert (puller().run().folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_more_than_there_should_be(puller: Puller, hub: FakeHub) -> None:
    """A file that does not end where it should is not read to its end."""
    hub.lies = {"config.json": hub.files["config.json"] * 3}
    with pytest.raises(DamagedError, match=r"config\.json: more came"):
        puller().run()


def test_verifying_finds_damage(puller: Puller, hub: FakeHub) -> None:
    """`verify` reads every byte, and fetches what is damaged and nothing else."""
    folder = puller().run().folder
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    hub.asked.clear()
    assert puller().run().fetched_bytes == 0  # sizes are believed
    assert puller().run(verify=True).fetched_bytes == len(content)
    assert hub.asked == [(WEIGHTS, None)]
    assert (folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_a_new_commit_fetches_what_changed(puller: Puller, hub: FakeHub, store: Store) -> None:
    """When the repository has moved on, only changed files are fetched, and whoever uses the model is asked first."""
    folder = puller().run().folder
    hub.asked.clear()
    hub.commit = "c" * 40
    hub.files["generation_config.json"] = b'{"temperature": 0.5}'
    replaced: list[Model] = []
    puller().run(before_replacing=replaced.append)
    assert [model.folder for model in replaced] == [folder]
    assert [name for name, _ in hub.asked] == ["generation_config.json"]
    assert (folder / "generation_config.json").read_bytes() == hub.files["generation_config.json"]
    (model,) = store.models()
    assert model.manifest is not None
    assert model.manifest.commit == hub.commit


def test_who_uses_it_may_object(puller: Puller, hub: FakeHub) -> None:
    """A model that is in use stays as it is."""
    folder = puller().run().folder
    before = (folder / "config.json").read_bytes()
    hub.files["config.json"] = before + b"\n"

    def object_(_model: Model) -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        puller().run(before_replacing=object_)
    assert (folder / "config.json").read_bytes() == before


def test_a_revision_has_a_folder_of_its_own(puller: Puller, hub: FakeHub, store: Store) -> None:
    """A named revision lies beside the model without one; one that does not exist is told."""
    hub.revisions["refs/pr/1"] = hub.commit
    puller().run()
    name = ModelName(NAME.repo, "refs/pr/1")
    assert puller(name).run().folder.name == "google--gemma-3-demo@refs%2Fpr%2F1"
    assert {model.name for model in store.models()} == {NAME, name}
    with pytest.raises(UnknownModelNameError, match="has no revision 'v9'"):
        puller(ModelName(NAME.repo, "v9")).run()


def test_a_gated_model(puller: Puller, hub: FakeHub) -> None:
    """A gated model's refusal says where to accept the licence, where tokens are made and where one goes; with the
    right token it comes."""
    hub.gate = "hf_secret"
    with pytest.raises(NoAccessError) as caught:
        puller().run()
    words = str(caught.value)
    for part in (f"{hub.url}/{NAME.repo}", "/settings/tokens", "HF_TOKEN", "hf auth login", "hf-token"):
        assert part in words
    with pytest.raises(NoAccessError, match="account of the token from HF_TOKEN") as caught:
        puller(token="hf_other").run()
    assert "hf_other" not in str(caught.value)
    assert hub.requests_of(WEIGHTS) == []  # it is found out with the first small file
    puller(token="hf_secret").run()
    assert "Bearer hf_secret" in hub.tokens


def test_large_files_lie_elsewhere(puller: Puller, hub: FakeHub) -> None:
    """A redirection to another host is followed, with the range that is missing and without our token."""
    hub.gate, hub.sends_away = "hf_secret", True
    hub.cut_after = {WEIGHTS: [HALF]}
    folder = puller(token="hf_secret").run().folder
    assert (folder / WEIGHTS).read_bytes() == hub.files[WEIGHTS]
    assert hub.requests_of(WEIGHTS) == [None, f"bytes={HALF}-"]
    assert hub.tokens_elsewhere == {None}


def test_a_model_that_is_not_there(puller: Puller) -> None:
    """An unknown repository is told as what it may be: none, or a private one."""
    with pytest.raises(UnknownModelNameError, match="does not exist, or is private"):
        puller(ModelName("google/gemma-9")).run()


def test_no_hub(puller: Puller, hub: FakeHub) -> None:
    """A hub that does not answer is named, without a traceback's words."""
    hub.url = "http://127.0.0.1:9"
    with pytest.raises(UnreachableError, match=r"cannot reach 127\.0\.0\.1:9: .*refused"):
        puller().run()


def test_no_room(puller: Puller, hub: FakeHub, store: Store) -> None:
    """Room is looked for before anything comes: it says what is needed and what there is."""
    with pytest.raises(DiskFullError, match=r"needs 4\.\d\d MiB more, and there is room for 1000\.00 KiB"):
        puller(free=lambda _folder: 1_024_000).run()
    assert hub.asked == []
    assert store.find(NAME) is None


def test_what_is_there_needs_no_room(puller: Puller, hub: FakeHub) -> None:
    """Only what has still to come needs room."""
    hub.cut_after = {WEIGHTS: [HALF, *[0] * (RETRIES + 1)]}
    with pytest.raises(UnreachableError):
        puller().run()
    left = len(hub.files[WEIGHTS]) - HALF
    hub.cut_after.clear()
    with pytest.raises(DiskFullError):
        puller(free=lambda _folder: left - 1).run()
    puller(free=lambda _folder: left).run()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", b'{"model_type": "llama"}', "model_type is 'llama'"),
        ("tokenizer.json", None, "no tokenizer.json"),
        (WEIGHTS, None, "only pickles"),
        ("model.safetensors.index.json", b'{"weight_map": {"a": "model-1-of-2.safetensors"}}', "no safetensors"),
    ],
)
def test_what_gemmad_does_not_serve(
    puller: Puller, hub: FakeHub, store: Store, name: str, content: bytes | None, words: str
) -> None:
    """A repository that is no Gemma 3 checkpoint is refused before its weights come, and leaves nothing."""
    hub.files.pop(name, None)
    if content is not None:
        hub.files[name] = content
    with pytest.raises(UnsuitableError, match=re.escape(words)):
        puller().run()
    assert hub.requests_of(WEIGHTS) == []
    assert store.models() == ()


def test_shards(puller: Puller, hub: FakeHub) -> None:
    """Where there is an index, the weights are its shards, several at a time, and no other safetensors."""
    names = [f"model-0000{number}-of-00006.safetensors" for number in range(1, 7)]
    hub.files |= {name: bytes([number]) * 1_500_000 for number, name in enumerate(names)}
    hub.files["model.safetensors.index.json"] = (
        b'{"weight_map": {' + b", ".join(f'"w{name}": "{name}"'.encode() for name in names) + b"}}"
    )
    hub.cut_after = {names[0]: [10], names[3]: [1_000_000]}
    folder = puller().run().folder
    assert sorted(path.name for path in folder.glob("*.safetensors")) == names
    assert all((folder / name).read_bytes() == hub.files[name] for name in names)


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (["a-Q6_K.gguf"], ["a-Q6_K.gguf"]),
        (["a-Q4_K_M.gguf", "a-q4_0.gguf", "deep/b.gguf"], ["a-q4_0.gguf"]),
        (
            [
                "a-00001-of-00002.gguf",
                "a-00002-of-00002.gguf",
                "mmproj-F16.gguf",
                "mmproj-BF16.gguf",
                "mmproj-F32.gguf",
            ],
            ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf", "mmproj-BF16.gguf"],
        ),
        (["a-Q6_K.gguf", "mmproj-model-x.gguf"], ["a-Q6_K.gguf", "mmproj-model-x.gguf"]),
    ],
)
def test_a_model_in_gguf(puller: Puller, hub: FakeHub, there: list[str], wanted: list[str]) -> None:
    """Without safetensors, one model in GGUF comes in all its parts, with one vision tower; of several q4_0."""
    del hub.files[WEIGHTS]
    hub.files |= {name: name.encode() for name in there}
    folder = puller().run().folder
    assert sorted(path.name for path in folder.glob("**/*.gguf")) == sorted(wanted)
    assert (folder / "tokenizer.json").exists()


def test_safetensors_beside_gguf(puller: Puller, hub: FakeHub) -> None:
    """Come alone: they are what the GGUF was made of."""
    hub.files["a-q4_0.gguf"] = b"x"
    assert not list(puller().run().folder.glob("*.gguf"))


@pytest.mark.parametrize(
    ("there", "without", "words"),
    [
        (
            ["a-Q4_K_M.gguf", "a-Q8_0.gguf"],
            (),
            "holds 2 models in GGUF, and not one of them is q4_0: a-Q4_K_M, a-Q8_0;",
        ),
        (["a-q4_0.gguf", "b-q4_0.gguf"], (), "and not one of them is q4_0: a-q4_0, b-q4_0;"),
        (["a-q4_0.gguf"], ("config.json", "tokenizer.json"), "holds GGUF and no config.json and no tokenizer.json:"),
        (["mmproj-F16.gguf"], (), "it has no safetensors and no GGUF"),
    ],
)
def test_gguf_that_leaves_a_choice(
    puller: Puller, hub: FakeHub, store: Store, there: list[str], without: tuple[str, ...], words: str
) -> None:
    """Nothing comes where it cannot be told which is wanted, or small files are missing; what to do is said."""
    for name in (WEIGHTS, *without):
        del hub.files[name]
    hub.files |= {name: name.encode() for name in there}
    with pytest.raises(UnsuitableError, match=re.escape(words)) as refused:
        puller().run()
    assert hub.asked == []
    assert store.models() == ()
    assert "by hand" in str(refused.value) or "mmproj" in there[0]


def test_an_index_that_names_other_files(puller: Puller, hub: FakeHub, store: Store) -> None:
    """An index that names weights that are not there, or not beside it, is refused."""
    hub.files["model-00001-of-00002.safetensors"] = b"x"
    hub.files["model.safetensors.index.json"] = b'{"weight_map": {"a": "../../etc/passwd"}}'
    with pytest.raises(UnsuitableError, match=re.escape("names '../../etc/passwd'")):
        puller().run()
    assert store.models() == ()


def test_two_pulls_at_once(puller: Puller, store: Store) -> None:
    """One model is pulled by one process at a time; the second is told so."""
    with store.pulling(NAME), pytest.raises(UnreachableError, match="another `gemmad pull`"):
        puller().run()
    puller().run()


def test_stopping(puller: Puller, hub: FakeHub, store: Store) -> None:
    """A pull that is stopped ends soon, and leaves what came for the next."""
    hub.cut_after = {WEIGHTS: [HALF]}
    pulls: list[Pull] = []
    pulls.append(puller(pause=lambda _seconds: pulls[0].stop()))
    with pytest.raises(StoppedError):
        pulls[0].run()
    (unfinished,) = store.models()
    assert unfinished.bytes > HALF


def test_removing(puller: Puller, hub: FakeHub, store: Store) -> None:
    """A model that is removed is gone, with what a cut pull of it left."""
    puller().run()
    hub.files[WEIGHTS] = hub.files[WEIGHTS][::-1]
    hub.cut_after = {WEIGHTS: [HALF, *[0] * (RETRIES + 1)]}
    with pytest.raises(UnreachableError):
        puller().run()
    model = store.find(NAME)
    assert model is not None
    assert len(store.models()) == 2
    store.remove(model)
    assert store.models() == ()
    assert not any((store.folder / ".pulling").iterdir())
