"""Texts that are no captions: page furniture, names of files, codes, lists of keywords, adverts.

Each function answers for one kind over a mended text. The words are lists to read and extend; a
rule wants a text to be of its kind as a whole, or to hold a phrase that no caption holds.
"""

import regex

# What a page says around an image. Any of these phrases drops a text wherever it stands.
_PHRASES = regex.compile(
    r"\b(?:click|tap)(?:ing)? (?:here|(?:on )?(?:the |this |any |each )?(?:image|photo|picture"
    r"|pic|thumb(?:nail)?|link|button|arrow|play|below|above)s?\b|to (?:enlarge|view|zoom|see|expand"
    r"|open|play|read|download|share|print|close|show|magnify|watch|order|buy|visit|go|get|learn"
    r"|start|continue))"
    r"|\b(?:image|photo|picture|video|graphic|content|page|file)s? (?:(?:is|are|was|were|has been"
    r"|currently|temporarily) )*(?:not? (?:longer )?(?:available|found)|unavailable|missing|removed"
    r"|deleted|coming soon|failed to load|cannot be (?:displayed|found|loaded)|not supported)"
    r"|\bno (?:image|photo|picture|photograph|preview|thumbnail)s? (?:available|found|yet|uploaded"
    r"|provided|selected)|\b(?:image|photo|picture) result for\b"
    r"|\b(?:all rights|rights) reserved\b|\blorem ipsum\b|\badd(?:ed)? to (?:your |my |the )?(?:cart"
    r"|basket|bag|wish ?list|favou?rites|compare)\b|\bstock (?:photo|image|vector) #?\d"
    r"|\byour browser (?:does|doesn|is)\b|\b(?:enable|turn on|requires) (?:javascript|cookies)\b"
    r"|\b(?:skip|jump) to (?:main |the )?(?:content|navigation)|\bback to top\b"
    r"|\b(?:roll|hover|mouse)(?: your)?(?: mouse| cursor)? ?(?:over|on) (?:the |this )?(?:image|photo"
    r"|picture|thumb)|\b(?:hover|pinch|scroll|swipe|tap) to (?:zoom|see|view|expand|read)\b"
    r"|\bshare (?:this |it )?(?:on|via|to|with) (?:facebook|twitter|pinterest|whatsapp|linkedin"
    r"|reddit|email|friends)\b|\b(?:follow|like|find|join) us (?:on|at)\b"
    r"|\b(?:sign|log) ?(?:in|up) (?:to|for|with|or|now|here)\b|\bsubscribe (?:to|now|here|for)\b"
    r"|\benter your (?:e-?mail|name|zip|password)\b|\b(?:terms (?:of (?:use|service)|and conditions)"
    r"|privacy policy|cookie policy)\b|\bopens? in (?:a )?new (?:window|tab)\b"
    r"|\b(?:buy|order|shop|call|book|register|apply) (?:it )?now\b(?=\s*(?:$|[!.|,–-]))"
    r"|\b(?:page not found|internal server error|access denied|bad gateway)\b"
    r"|\bthis (?:post|page|article|entry) (?:was|has been) (?:published|posted|moved|updated)\b",
    regex.I,
)
_ZH_PHRASES = regex.compile(
    r"点击(?:此处|这里|查看|放大|图片|进入|购买|下载|下图|上图|加载|链接|关注|阅读|看|打开|播放|观看|展开"
    r"|领取|蓝字|上方|下方|预览|显示|了解|返回)|点(?:此|这里)(?:查看|进入|下载|购买)"
    r"|单击(?:此处|图片|查看)|暂无(?:图|照|相关|数据|内容|评论|预览|简介)|(?:图片|照片|图像|视频|页面)"
    r"(?:正在)?(?:加载|载入|无法|不能|不存在|已被|被删|未找到|找不到|暂缺|待上传|上传中|丢失|损坏|已失效)"
    r"|加入(?:购物车|收藏夹|会员)|版权所有|长按.{0,6}(?:识别|二维码|保存)|(?:扫一扫|扫描|扫码|识别).{0,8}"
    r"(?:关注|二维码|添加|下载|加群|加微信)|关注.{0,12}(?:公众号|微信号|官方微博)|(?:不得|禁止|请勿|谢绝)"
    r"(?:擅自|任意|私自)?转载|立即(?:购买|抢购|下单|注册|下载|登录|咨询)|登[录陆]后(?:查看|可|才|继续)"
    r"|(?:阅读|查看|展开|显示|浏览)(?:全文|更多|原文|详情|大图|原图|全部)|您的浏览器|(?:欢迎|敬请)(?:来电"
    r"|咨询|选购|订购|光临|关注|致电)|上一[张页篇].{0,4}下一[张页篇]",
    regex.I,
)
# Words of the page and its buttons. A text of nothing else, with a telling one, is furniture.
_UI_WORDS = frozenset(
    """
    a about above access account add advert advertisement ads again album all an and any app are
    arrow article articles as at author available avatar back banner be been below better big bigger
    biggest blank bottom browse browser but button by can cannot captcha caption change check
    checkout clear click clicking close comment comments coming comparison content contents continue
    cookie could cover credit default delete deleted description detail details dialog display
    displayed do does doesn don download downloads email empty enable end enlarge enlarged
    enlargement enter error exist exists expand failed featured feed file find first follow for
    found from full fullscreen fullsize galleries gallery get go has have header hd help here hero
    hidden hide high home hover icon image images in info information is isn it item items its
    javascript jpeg jpg just larger largest last latest learn left less lightbox like link links
    list load loaded loader loading log login logo logout low magnify main menu missing modal more
    my name navigation new newer newest newsletter next no none not now number of off ok older on
    online only open opens or original our out page pages pagination photo photograph photos pic
    pics picture pictures pin placeholder play please popup post poster posts press preview previous
    print product products profile quality quick read reading refresh related reload remove removed
    reply report res reset resolution result results retry right roll save scroll search see select
    server share show showing sign signup site size sized sizes skip slide slider slides slideshow
    small soon sorry source spinner start stay stop submit subscribe support supported swipe tab tag
    tags tap tbd text that the this thumb thumbnail thumbnails thumbs title to toggle top try
    unavailable unknown untitled up update upload uploaded url us use user username version video
    videos view viewer viewing views visit wait was watch web website width will window with won yet
    you your zoom zoomed
    """.split()
)
_UI_TELLING = regex.compile(
    r"\b(?:click|enlarge[dm]?\w*|loading|loader|unavailable|placeholder|thumbnails?|thumbs?|slideshow"
    r"|lightbox|fullscreen|fullsize|javascript|newsletter|subscribe|log ?in|signup|checkout|popup"
    r"|advert(?:isement)?|username|pagination|captcha|avatar|spinner|untitled|navigation|uploaded?)\b"
    r"|\b(?:no|not|missing|default|blank|empty|unknown) (?:\w+ ){0,2}?(?:image|photo|picture|photograph|pic"
    r"|thumbnail|logo|available|found|exist\w*|icon|video|preview|cover|title|name|user|results?)\b"
    r"|\b(?:coming soon|(?:view|see|show|read|load|learn|find|get|browse|discover) (?:\w+ )?(?:more|all"
    r"|less|full|larger?|bigger|gallery|details?|original|photos?|images?|pictures?|post|page|slideshow)"
    r"|full (?:size|screen|view|resolution)|quick (?:view|look|shop)|larger? (?:view|version|image|size)"
    r"|(?:next|previous|prev|first|last) (?:image|photo|picture|slide|page|post|article|item)"
    r"|(?:image|photo|picture|slide|page|item) \d+ ?(?:of|/) ?\d+|sign (?:up|out)|(?:^|or )(?:sign|log) in|log out"
    r"|please wait|page not|new (?:window|tab)|scroll (?:down|up|to)|tap (?:to|here|on)|go to"
    r"|swipe (?:to|left|right|up)|zoom (?:in|out)|(?:in|out|to) zoom|download (?:image|photo|picture|file"
    r"|full|original|hd|now|this)|high(?:er)? res\w*|play video|watch video|(?:image|photo|picture) (?:error"
    r"|source|link|url|credit|loading|preview|title|caption|description|viewer|upload)"
    r"|(?:user|profile|account) (?:icon|photo|image|picture|pic|name)|related (?:post|image|product"
    r"|article|video|photo|item)s?|share (?:this|on|it)|print page|skip to|back to|error \d+|\d+ error"
    r"|try again|page \d+|open image|alt text)\b",
    regex.I,
)
_UI_LATIN = regex.compile(r"[a-z]+")
# Each phrase holds one of these words; a look at the words costs a tenth of the pattern.
_PHRASE_WORDS = frozenset(
    """
    click clicking tap tapping available found unavailable missing removed deleted coming failed
    cannot supported result reserved lorem cart basket bag wish wishlist favorites favourites
    favorite favourite compare stock browser enable turn requires skip jump back roll hover mouse
    pinch scroll swipe share follow like find join sign log subscribe enter terms policy opens open
    buy order shop call book register apply page server access gateway this yet uploaded provided
    selected login signup signin
    """.split()
)
_UI_ZH = regex.compile(
    r"点击|点此|单击|双击|轻触|长按|扫一扫|扫码|扫描|二维码|加载|载入|暂无|暂时|没有|无法|不能|不存在|已?删除|失效|查看"
    r"|更多|下一|上一|返回|首页|主页|顶部|登[录陆]|注册|关注|分享|转发|收藏|点赞|评论|下载|立即|马上|购买|购物车|加入"
    r"|敬请|期待|默认|头像|缩略图|占位|展开|收起|全文|原文|阅读|浏览|打开|关闭|进入|侵权|必究|转载|授权|请稍[候后]"
    r"|稍[候后等]|刷新|重试|重新|原图|大图|小图|放大|缩小|高清|显示|隐藏|图片|照片|图像|相片|视频|相关|全部|所有|内容"
    r"|详情|页面|网页|网站|微信|公众号|微博|朋友圈|空间|客户端|用户|链接|按钮|识别|搜索|商品|产品|发表|回复|失败|成功"
    r"|正在|完整|清晰|尺寸|推荐|热门|最新|专题|目录|导航|广告|赞助|帮助|反馈|举报|提交|取消|确定|确认|保存|继续|跳过"
    r"|播放|暂停|预览|上传|未找到|错误|可以|我们|您的|你的|版权"
)
_UI_ZH_WEAK = regex.compile(
    r"[图张页篇个条的了可以请后前到至该此这那被已不未经得无中下上有您你我看点里好吧和或与及在为是将]"
)
_UI_ZH_NEUTRAL = regex.compile(r"^(?:图片|照片|图像|相片|视频|商品|产品|广告|微信|高清|内容)+$")
_HAN = regex.compile(r"\p{Han}")

_SUFFIX = (
    r"\.(?:jpe?g|jfif|png|gif|webp|bmp|tiff?|svg|heic|heif|avif|raw|cr2|cr3|nef|arw|dng|psd|eps|ai|pdf"
    r"|mov|mp4|avi|m4v|mpe?g|webm|3gp|docx?|pptx?|xlsx?|html?|php|aspx?)"
)
_FILE = regex.compile(rf"(?:\S+\s+){{0,9}}\S+{_SUFFIX}(?:[?#]\S*|\s*\(\d+\))?", regex.I)
# Names that cameras, telephones, messengers and programs give to files.
_DEVICES = frozenset(
    """
    img image imagen imagem immagine bild foto photo photos pic picture pict dsc dscn dscf dscx dcim
    sdc mg mvi mov vid video pxl gopr gp dji sam cimg imgp imag hpim kif pano p pb wp scan scanned
    scanner screenshot screenshots screen shot capture captura schermata bildschirmfoto snip snap
    untitled unnamed unbenannt noname wa whatsapp signal snapchat received fb messenger telegram
    mmexport wx qq viber kakaotalk line wechat facebook instagram tumblr burst selfie attachment file
    thumbnail thumb banner slide header logo product avatar profile upload download downloaded
    temp tmp clipboard paste pasted fotor canva export render output frame grab grafik figure fig
    """.split()
)
_FILE_WORDS = frozenset(
    """
    at am pm of copy final edit edited edits large small medium thumb crop cropped scaled resized web
    new full hd hdr cloud size image images img photo cover lr ps bw color front back left right main
    home top bottom n o x s m l xl b a c d e f z v jpg jpeg png chrome firefox compressed min rotated
    sharp original orig page slide ver version effects bokeh portrait mode night camera cam burst
    collage pro android iphone ipad phone studio draft rev wa kopie copia
    """.split()
)
_PARTS = regex.compile(r"[\s_\-.,:()#/~+@]+")
_CODE = regex.compile(r"(?=.*\d)[A-Za-z0-9]+")
_CJK_FILE = regex.compile(
    r"(?:(?:企业)?微信|QQ|钉钉|飞书|屏幕|手机|全屏|网页|wx|微博|支付宝|抖音|企鹅)?(?:图片|图像|截图|截屏|快照|照片|相机"
    r"|录屏|文件|扫描件?|产品图|商品图|主图|详情图|配图|附件|视频|图|未命名|无标题|新建.{0,6})[\s_\-(（]*"
    r"(?:\d[\d\s_\-:.年月日时分秒上中下午()（）]*|)(?:副本|拷贝)?",
)
_SLUG = regex.compile(r"[a-z0-9]+(?:[-_.][a-z0-9]+)+", regex.I)

_LABEL = regex.compile(
    r"(?:(?:sku|ref(?:erence)?|item|model|mod|art(?:icle|ikel)?|product|part|serial|style|order|stock|lot|cat"
    r"(?:alog(?:ue)?)?|isbn|issn|upc|ean|gtin|asin|mpn|mls|id|code|barcode|mfg|nsn|vin|p/n|s/n|oem|type)"
    r"[\s.\-]*(?:no|nr|num|number|code|id|#|n°)?|货号|编号|型号|款号|商品编号|商品号|产品编号|产品型号|订单号|条码"
    r"|条形码|序号|序列号|编码|房源编号|批号|批准文号|档案号)[\s.:：#№-]*(?=[\w\s./#-]*\d)[A-Za-z0-9][\w./#-]*"
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
    a an the and or with in on at by from is are was were has have had as that this his her their
    its near under over between during while who which into onto behind beside
    """.split()
)
_SENTENCE_HAN = regex.compile(r"[的了着在是和有与及被把从将正们向给让上里中下]")
_MARK = regex.compile(
    r"[#＃][^\s#＃@＠]*[\p{L}_][^\s#＃@＠]*(?:[#＃](?!\S))?|(?<![\w.])[@＠][\w.\-]*[\p{L}_\d][\w.\-]*"
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
    r"\b(?:call|phone|tel|telephone|mobile|cell|fax|text|sms|whats ?app|wechat|contact|ring|dial|hotline"
    r"|helpline|order|orders|booking|book|enquir(?:y|ies)|inquir(?:y|ies)|quotes?|estimates?|viber|line|ph"
    r"|toll[- ]free|dm|inbox)\b|电话|手机|微信|热线|致电|来电|咨询|联系|客服|座机|传真|订购|订货|批发|加盟|招商|招代理",
    regex.I,
)
_PHONE = regex.compile(r"(?<![\d,.$€£#])\(?\+?\d(?:[\s.()-]{0,2}\d){6,13}(?!\d|,\d)")
_HANDLE = regex.compile(
    r"\b(?:whats ?app|wechat|we-?chat|skype|viber|telegram|kik|snapchat|line id|qq)\s*(?:id|me|us|no|number)?"
    r"\s*[:：]\s*[\w.+@-]{4,}|\b(?:add|contact|message|reach|dm) (?:me|us) (?:on|at|via|through) \w+\s*[:：]?\s*"
    r"(?=[\w.-]*\d)[\w.@-]{4,}|(?:微信号?|[VvＶ]信|薇信|威信|QQ号?|扣扣|企鹅号?|[Qq]群|微信公众号)\s*(?:同号)?[:：\s]"
    r"\s*[A-Za-z0-9_-]{5,}|加(?:我|我们)?(?:微信|[VvＶ]信?|薇|QQ|扣)\s*号?[:：\s]?\s*[A-Za-z0-9_-]{5,}|(?:电话|手机|热线|微信)"
    r"(?:[/、](?:电话|手机|微信))*(?:同号)?\s*[:：]\s*\+?[\d\s-]{7,}",
    regex.I,
)


def boilerplate(text: str) -> bool:
    """What a page says around an image: buttons, notices, stand-ins for an image."""
    lower = text.lower()
    words = _UI_LATIN.findall(lower)
    if not _PHRASE_WORDS.isdisjoint(words) and _PHRASES.search(lower) is not None:
        return True
    if not text.isascii() and _HAN.search(text) is not None:
        return _ZH_PHRASES.search(text) is not None or _is_chinese_furniture(text, words)
    if not all(word in _UI_WORDS or len(word) == 1 for word in words):
        return False
    return _UI_TELLING.search(lower.replace("'", " ").replace("’", " ")) is not None


def _is_chinese_furniture(text: str, latin: list[str]) -> bool:
    if _UI_ZH_NEUTRAL.match(text) or _UI_ZH.search(text) is None:
        return False
    rest = _UI_ZH_WEAK.sub("", _UI_ZH.sub("", text))
    return _HAN.search(rest) is None and all(word in _UI_WORDS for word in latin)


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
        return False
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
