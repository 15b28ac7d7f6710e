"""Texts that are no captions: names of files, codes, lists of keywords, hashtags, adverts.

Each function answers for one kind over a mended text. The words are lists to read and extend; a
rule wants a text to be of its kind as a whole. Page furniture is `text_boilerplate.py`'s.
"""

import regex

_HAN = regex.compile(r"\p{Han}")

_SUFFIX = (
    r"\.(?:jpe?g|jfif|png|gif|webp|bmp|tiff?|svg|heic|heif|avif|raw|cr2|cr3|nef|arw|dng|psd|eps"
    r"|ai|pdf"
    r"|mov|mp4|avi|m4v|mpe?g|webm|3gp|docx?|pptx?|xlsx?|html?|php|aspx?)"
)
_FILE = regex.compile(rf"(?:\S+\s+){{0,9}}\S+{_SUFFIX}(?:[?#]\S*|\s*\(\d+\))?", regex.I)
# Names that cameras, telephones, messengers and programs give to files.
_DEVICES = frozenset(
    """
    mvimg istock istockphoto shutterstock gettyimages depositphotos adobestock dreamstime
    fotolia pexels unsplash pixabay alamy bigstock fullsizerender fullsizeoutput img image
    imagen imagem immagine bild foto photo photos pic picture pict dsc dscn dscf dscx dcim sdc
    mg mvi mov vid video pxl gopr gp dji sam cimg imgp imag hpim kif pano p pb wp scan scanned
    scanner screenshot screenshots screen shot capture captura schermata bildschirmfoto snip
    snap untitled unnamed unbenannt noname wa whatsapp signal snapchat received fb messenger
    telegram mmexport wx qq viber kakaotalk line wechat facebook instagram tumblr burst selfie
    attachment file thumbnail thumb banner slide header logo product avatar profile upload
    download downloaded temp tmp clipboard paste pasted fotor canva export render output frame
    grab grafik figure fig
    """.split()
)
_FILE_WORDS = frozenset(
    """
    at am pm of copy final edit edited edits large small medium thumb crop cropped scaled
    resized web new full hd hdr cloud size image images img photo cover lr ps bw color front
    back left right main home top bottom n o x s m l xl b a c d e f z v jpg jpeg png chrome
    firefox compressed min rotated sharp original orig page slide ver version effects bokeh
    portrait mode night camera cam burst collage pro android iphone ipad phone studio draft
    rev wa kopie copia
    """.split()
)
_EXPORTED = regex.compile(
    r"(?:image|photo|video|file) (?:uploaded )?from (?:ios|android)|pasted image", regex.I
)
_PARTS = regex.compile(r"[\s_\-.,:()#/~+@]+")
_CODE = regex.compile(r"(?=.*\d)[A-Za-z0-9]+")
_CJK_FILE = regex.compile(
    r"(?:(?:企业)?微信|QQ|钉钉|飞书|屏幕|手机|全屏|网页|wx|微博|支付宝|抖音|企鹅)?(?:图片|图像"
    r"|截图|截屏|快照|照片|相机"
    r"|录屏|文件|扫描件?|产品图|商品图|主图|详情图|配图|附件|视频|图|未命名|无标题"
    r"|新建.{0,6})[\s_\-(（]*"
    r"(?:\d[\d\s_\-:.年月日时分秒上中下午()（）]*|)(?:副本|拷贝)?",
)
_SLUG = regex.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)+", regex.I)

_LABEL = regex.compile(
    r"(?:(?:sku|ref(?:erence)?|item|model|mod|art(?:icle|ikel)?|product|part|serial|style|order"
    r"|stock|lot|cat"
    r"(?:alog(?:ue)?)?|isbn|issn|upc|ean|gtin|asin|mpn|mls|id|code|barcode|mfg|nsn|vin|p/n|s/n"
    r"|oem|type)"
    r"[\s.\-]*(?:no|nr|num|number|code|id|#|n°)?|货号|编号|型号|款号|商品编号|商品号|产品编号"
    r"|产品型号|订单号|条码"
    r"|条形码|序号|序列号|编码|房源编号|批号|批准文号"
    r"|档案号)[\s.:：#№-]*(?=[\w\s./#-]*\d)[A-Za-z0-9][A-Za-z0-9_./#-]*"
    r"(?:\s[A-Z0-9./-]{1,8})?",
    regex.I,
)
_LONG_CODE = regex.compile(
    r"(?=(?:\D*\d){4})(?=\S*[A-Za-z])(?!.*[a-z]{4})[A-Za-z0-9]+(?:[-_./:][A-Za-z0-9]+)*"
)
_HEX = regex.compile(r"(?:0x)?(?=\D*\d)[0-9a-f-]{10,}|(?=(?:\D*\d){3})[A-Za-z0-9_-]{18,}", regex.I)
_MEASURE = regex.compile(r"(?:\d{1,3}\s?[-_.])?\d{2,5}\s?[x×X]\s?\d{2,5}(?:\s?(?:px|pixels))?")

_LIST_SIGN = regex.compile(r"\s*[,;|，、；｜•·]\s*|\s+[/–—-]\s+")
_SENTENCE_WORDS = frozenset(
    """
    a an the and or with in on at by from is are was were has have had as that this his her
    their its near under over between during while who which into onto behind beside
    """.split()
)
_SENTENCE_HAN = regex.compile(r"[的了着在是和有与及被把从将正们向给让上里中下]")
_MARK = regex.compile(
    r"[#＃][^\s#＃@＠]*[\p{L}_][^\s#＃@＠]*(?:[#＃](?!\S))?"
    r"|(?<![\w.])[@＠][\w.\-]*[\p{L}_\d][\w.\-]*"
)
_MARK_WORDS = frozenset(
    "via by with rt from cc credit credits follow tag tags and or me us on ig".split()
)
_WORD = regex.compile(r"[A-Za-z0-9][A-Za-z0-9'’-]*|\p{Han}")

_EMAIL = regex.compile(r"[\w.+-]+\s?(?:@|\(at\)|\[at\])\s?[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
_STRONG_PHONE = regex.compile(
    r"\(\d{3}\)\s?\d{3}[\s.-]\d{4}|(?<![\d-])1?[\s.-]?\d{3}[.-]\d{3}[.-]\d{4}(?!\d)"
    r"|\+\d{1,3}[\s.-]?(?:\(?\d{1,4}\)?[\s.-]?){2,5}\d{2,4}"
    r"|(?<!\d)1[3-9]\d[\s-]?\d{4}[\s-]?\d{4}(?!\d)|(?<!\d)[48]00-\d{3,4}-?\d{3,4}(?!\d)"
    r"|(?<!\d)0\d{2,3}-\d{7,8}(?!\d)"
)
_PHONE_CUE = regex.compile(
    r"\b(?:call|phone|tel|telephone|mobile|cell|fax|text|sms|whats ?app|wechat|contact|ring|dial"
    r"|hotline"
    r"|helpline|order|orders|booking|book|enquir(?:y|ies)|inquir(?:y|ies)|quotes?|estimates?"
    r"|viber|line|ph"
    r"|toll[- ]free|dm|inbox)\b|电话|手机|微信|热线|致电|来电|咨询|联系|客服|座机|传真|订购"
    r"|订货|批发|加盟|招商|招代理",
    regex.I,
)
_PHONE = regex.compile(r"(?<![\d,.$€£#])\(?\+?\d(?:[\s.()-]{0,2}\d){6,13}(?!\d|,\d)")
_HANDLE = regex.compile(
    r"\b(?:whats ?app|wechat|we-?chat|skype|viber|telegram|kik|snapchat|line id|qq)\s*(?:id|me"
    r"|us|no|number)?"
    r"\s*[:：]\s*[\w.+@-]{4,}|\b(?:add|contact|message|reach|dm) (?:me|us) (?:on|at|via"
    r"|through) \w+\s*[:：]?\s*"
    r"(?=[\w.-]*\d)[\w.@-]{4,}|(?:微信号?|[VvＶ]信|薇信|威信|QQ号?|扣扣|企鹅号?|[Qq]群"
    r"|微信公众号)\s*(?:同号)?[:：\s]"
    r"\s*[A-Za-z0-9_-]{5,}|加(?:我|我们)?(?:微信|[VvＶ]信?|薇|QQ"
    r"|扣)\s*号?[:：\s]?\s*[A-Za-z0-9_-]{5,}|(?:电话|手机|热线|微信)"
    r"(?:[/、](?:电话|手机|微信))*(?:同号)?\s*[:：]\s*\+?[\d\s-]{7,}",
    regex.I,
)


def file_name(text: str) -> bool:
    """The name of a file, whole: as a camera, a telephone, a program or a person gave it."""
    if len(text) > 120:
        return False
    if "." in text and ". " not in text and _FILE.fullmatch(text) is not None:
        return True
    numbered = any(map(str.isdigit, text))
    if not text.isascii() and _CJK_FILE.fullmatch(text) is not None:
        return numbered or text[:2] in ("未命", "无标", "新建")
    if " " in text and not numbered:
        return _EXPORTED.fullmatch(text) is not None
    if not numbered and text.lower() in _DEVICES:  # a name that programs give to all
        return True
    parts = [part for part in _PARTS.split(text) if part]
    words = [part for part in parts if not part.isdigit()]
    known = [_device(word) for word in words]
    if (
        numbered
        and any(known)
        and all(
            device or word.lower() in _FILE_WORDS or _CODE.fullmatch(word)
            for device, word in zip(known, words)
        )
    ):
        return True
    if text.replace("_", "").isdigit() and "_" in text:  # 20190401_123456
        return True
    return _is_slug(text)


def _device(word: str) -> bool:
    """DSC, or DSC00412."""
    return word.lower().rstrip("0123456789") in _DEVICES


def _is_slug(text: str) -> bool:
    """Words joined by signs, as in an address: my_dog_at_beach, header-image-final-v2."""
    if _SLUG.fullmatch(text) is None:
        return False
    if "_" in text:
        return True
    return text.count("-") >= 3 or text.count("-") >= 2 and text[-1].isdigit() and text.islower()


def identifier(text: str) -> bool:
    """A code: of a product, an article, an object in a store, or the size of an image."""
    if len(text) > 80 or not any(map(str.isdigit, text)):
        return False
    return any(
        pattern.fullmatch(text) for pattern in (_LABEL, _LONG_CODE, _HEX, _MEASURE)
    )  # fmt: skip


def keyword_list(text: str) -> bool:
    """Five and more short items one after the other, without a word that joins them."""
    items = [item for item in _LIST_SIGN.split(text.strip(" .,;|，、；。")) if item]
    if len(items) < 4:
        return False
    if _HAN.search(text) is not None:
        if len(items) < 5 or _SENTENCE_HAN.search(text):
            return False
        sizes = [len(_WORD.findall(item)) for item in items]
        return max(sizes) <= 7 and sum(sizes) <= 4.5 * len(sizes)
    words = [item.lower().split() for item in items]
    if any(word in _SENTENCE_WORDS for item in words for word in item):
        return False
    # Items with numbers are what a product has: 16GB RAM, 15 inch.
    if 3 * sum(any(map(str.isdigit, item)) for item in items) > len(items):
        return False
    lengths = list(map(len, words))
    if max(lengths) > 5 or sum(lengths) > 2.5 * len(lengths):
        return False
    shared = set.intersection(*(set(w.rstrip("s") for w in item) for item in words))
    return len(items) >= 5 or bool(shared)


def hashtags(text: str) -> bool:
    """Hashtags and handles, and next to nothing else."""
    marks = _MARK.findall(text)
    if not marks:
        return False
    rest = [w for w in _WORD.findall(_MARK.sub(" ", text)) if w.lower() not in _MARK_WORDS]
    return not rest or len(marks) >= 3 and 2 * len(rest) <= len(marks)


def contact(text: str) -> bool:
    """An advert: it says where to call, to write or to order."""
    if ("@" in text or "at)" in text or "at]" in text) and _EMAIL.search(text) is not None:
        return True
    digits = sum(map(str.isdigit, text))
    if (digits or ":" in text or "：" in text or not text.isascii()) and _HANDLE.search(text):
        return True
    if digits < 7:
        return False
    if _STRONG_PHONE.search(text) is not None:
        return True
    return _PHONE_CUE.search(text) is not None and _PHONE.search(text) is not None
