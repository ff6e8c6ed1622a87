"""Inputs that fit, inputs that do not, and what the message says."""

import numpy as np
import pytest
import torch

import mixerlens as ml
from capture import tiny
from mixerlens.errors import InputError, UnsupportedError


class Words:
    """A tokenizer with one word a token, as far as the lens uses one."""

    pad_token_id = 0
    ends = False
    table = ("<pad>", "<s>", "</s>", "the", "cat", "sat", "<script>")

    def __call__(self, text, add_special_tokens=True):
        words = [*text.split(), "</s>"] if add_special_tokens and self.ends else text.split()
        return {"input_ids": [self.table.index(word) for word in words]}

    def convert_ids_to_tokens(self, ids):
        return [self.table[i] for i in ids]

    def decode(self, ids):
        return "" if ids == [0] else " " + self.table[ids[0]]


@pytest.fixture(scope="module")
def lens():
    return ml.open(tiny.build("llama"))


@pytest.fixture
def worded(lens, monkeypatch):
    monkeypatch.setitem(vars(lens), "tokenizer", Words())
    return lens


def test_text_and_lists_of_texts(worded):
    trace = worded.trace(["the cat sat", "the <script>"])
    assert trace.inputs.tolist() == [[3, 4, 5], [3, 6, 0]]
    assert trace.attention_mask.tolist() == [[True, True, True], [True, True, False]]
    assert trace.tokens == [[" the", " cat", " sat"], [" the", " <script>", "<pad>"]]
    alone = worded.trace("the <script>")
    assert alone.attention_mask is None
    torch.testing.assert_close(trace.logits[1, :2], alone.logits[0])


@pytest.mark.parametrize(("text", "message"), [("", "the text is empty$"), (" ", "the text ' ' has no tokens$")])
def test_a_text_without_a_token_of_its_own_is_refused(worded, monkeypatch, text, message):
    monkeypatch.setattr(Words, "ends", True)
    assert worded.trace("the").inputs.tolist() == [[3, 2]]
    for given in (text, ["the", text]):
        with pytest.raises(InputError, match=message):
            worded.trace(given)


def test_ids_in_any_container(lens):
    ids = tiny.ids(2, 7)
    expected = lens.trace(ids).logits
    for form in (ids.tolist(), ids.numpy(), ids.int(), ids.to(torch.uint8)):
        assert torch.equal(lens.trace(form).logits, expected)
    assert lens.trace(ids).tokens[0] == [str(i) for i in ids[0].tolist()]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("some text", "this model has no tokenizer"),
        (torch.zeros(1, 129, dtype=torch.long), "the input has 129 tokens, the model's context is 128"),
        (torch.tensor([[1, 97]]), "token id 97 is outside the model's vocabulary of 97"),
        (torch.tensor([[1, -1]]), "token id -1 is outside the model's vocabulary of 97"),
        (
            torch.zeros(5, dtype=torch.long),
            r"reads token ids, integers \(batch, time\); got int64 \(5,\): the batch axis is missing",
        ),
        ([1, 2, 3], r"got int64 \(3,\): the batch axis is missing, add it with ids\[None\]$"),
        (torch.zeros(1, 5), r"reads token ids, integers \(batch, time\); got float32 \(1, 5\)"),
        (torch.zeros(1, 5, 3), r"got float32 \(1, 5, 3\)"),
        (torch.zeros(1, 5, dtype=torch.bool), r"got bool \(1, 5\)"),
        (torch.zeros(1, 0, dtype=torch.long), r"the input is empty: int64 \(1, 0\)"),
        ([[1, 2], [3]], r"inputs are text, ids .* got a list whose rows differ in length: pad them"),
        (object(), r"inputs are text, ids \(batch, time\) or floats.* got object"),
        (None, r"inputs are text, ids \(batch, time\) or floats \(batch, time, channels\); got None$"),
        (np.array([None]), "got an array of object$"),
    ],
)
def test_inputs_that_do_not_fit(lens, given, message):
    with pytest.raises(InputError, match=message) as caught:
        lens.trace(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(1, 6), r"attention_mask is \(1, 6\), the inputs are \(1, 7\)"),
        (torch.full((1, 7), 0.5), "1 for tokens and 0 for padding"),
        (torch.zeros(1, 7), "leaves a row without a single token"),
        ([[None] * 7], r"attention_mask is an array \(batch, time\); got list"),
    ],
)
def test_masks_that_do_not_fit(lens, mask, message):
    with pytest.raises(InputError, match=message):
        lens.trace(tiny.ids(1, 7), attention_mask=mask)


def test_a_full_mask_is_no_mask(lens):
    assert lens.trace(tiny.ids(1, 7), attention_mask=np.ones((1, 7), dtype=int)).attention_mask is None


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([2], "layer 2 is not among the model's layers 0, 1"),
        ([0, -1], "layer -1 is not among"),
        ([], "an empty selection"),
    ],
)
def test_unknown_layers_list_the_known_ones(lens, layers, message):
    with pytest.raises(InputError, match=message):
        lens.trace(tiny.ids(), layers=layers)


def test_selected_layers_only(lens):
    assert list(lens.trace(tiny.ids(), layers=[1]).mixers) == ["model.layers.1.self_attn"]


def test_positions_that_begin_after_the_padding_id_shorten_the_context():
    import transformers

    settings = {k: v for k, v in tiny.SMALL.items() if k != "num_key_value_heads"}
    settings |= {"pad_token_id": 1, "max_position_embeddings": 20}
    lens = ml.open(transformers.RobertaModel(transformers.RobertaConfig(**settings)))
    assert lens.context_length == 18
    lens.trace(tiny.ids(1, 18))
    with pytest.raises(InputError, match="19 tokens, the model's context is 18"):
        lens.trace(tiny.ids(1, 19))


def test_models_without_a_limit_have_none():
    assert ml.open(tiny.build("mamba", max_position_embeddings=None)).context_length is None


def test_s4d_reads_floats_only():
    from mixerlens.models.s4d import S4DClassifier, S4DConfig

    lens = ml.open(S4DClassifier(S4DConfig(channels=2, classes=3, features=4, modes=2, layers=1)))
    for given, message in [
        ("text", "reads floats"),
        (torch.zeros(1, 5, dtype=torch.long), r"reads floats \(batch, time, channels\); got int64 \(1, 5\)"),
        (torch.zeros(1, 5), r"got float32 \(1, 5\): one axis is missing"),
        (torch.full((1, 5, 2), float("nan")), "NaN or infinite"),
        (torch.zeros(1, 5, 3), r"\(1, 5, 3\)"),
    ]:
        with pytest.raises(InputError, match=message):
            lens.trace(given)
    with pytest.raises(InputError, match="takes no attention_mask"):
        lens.trace(torch.zeros(1, 5, 2), attention_mask=[[0, 1, 1, 1, 1]])


def test_a_model_that_needs_more_than_one_input_says_so():
    llama = tiny.build("llama")
    plain = llama.forward
    llama.forward = lambda input_ids, grid_thw, *, labels, use_cache=None: plain(input_ids)
    with pytest.raises(UnsupportedError, match="needs grid_thw and labels beside input_ids: only models of one input"):
        ml.open(llama).trace(tiny.ids())
