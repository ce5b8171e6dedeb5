"""The built-in model's tokenizer: XLM-RoBERTa's SentencePiece Unigram, for the `tokenizers` library."""

from typing import Final

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from stream_classifier.model.default.e5_file import E5File

# SentencePiece's "nmt_nfkc" is NFKC with these differences (sentencepiece, builder.cc): more kinds of white space
# become a blank, control characters vanish, and the full-width tilde stays: a private character stands in for it.
_BLANKS: Final = r"[\t\n\f\r\x{1680}\x{200B}-\x{200F}\x{2028}\x{2029}\x{2581}\x{FEFF}\x{FFFD}]"
_CONTROLS: Final = r"[\x01-\x08\x0B\x0E-\x1F\x7F\x{008F}\x{009F}]"
_TILDE: Final = "\uff5e"
_STAND_IN: Final = "\ue000"


def build_tokenizer(file: E5File) -> Tokenizer:
    """The tokenizer with the file's vocabulary. It says what to pad with; whoever loads it sets the longest text."""
    pieces = list(zip(file.pieces, file.scores, strict=True))
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=file.unknown, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(_BLANKS), " "),
            normalizers.Replace(Regex(_CONTROLS), ""),
            normalizers.Replace(_TILDE, _STAND_IN),
            normalizers.NFKC(),
            normalizers.Replace(_STAND_IN, _TILDE),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    begin, end = file.pieces[file.bos], file.pieces[file.eos]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", special_tokens=[(begin, file.bos), (end, file.eos)]
    )
    tokenizer.enable_padding(pad_id=file.pad, pad_token=file.pieces[file.pad])
    return tokenizer
