"""Page furniture: what a page says around an image, in English and in Chinese.

A text is furniture where it holds a phrase that no caption holds, or where it has no word but those
of a page and its buttons, one of which is telling. The words are lists to read and extend.
"""

import regex

# What a page says around an image. Any of these phrases drops a text wherever it stands.
_PHRASES = regex.compile(
    r"\b(?:click|tap)(?:ing)? (?:here|(?:on )?(?:the |this |any |each )?(?:image|photo|picture"
    r"|pic|thumb(?:nail)?|link|button|arrow|play|below|above)s?\b|to (?:enlarge|view|zoom|see"
    r"|expand"
    r"|open|play|read|download|share|print|close|show|magnify|watch|order|buy|visit|go|get|learn"
    r"|start|continue))"
    r"|\b(?:image|photo|picture|video|graphic|content|page|file)s? (?:(?:is|are|was|were|has been"
    r"|currently|temporarily) )*(?:not? (?:longer )?(?:available|found)|unavailable|missing|removed"
    r"|deleted|coming soon|failed to load|cannot be (?:displayed|found|loaded)|not supported)"
    r"|\bno (?:image|photo|picture|photograph|preview|thumbnail)s? (?:available|found|yet|uploaded"
    r"|provided|selected)|\b(?:image|photo|picture) result for\b"
    r"|\b(?:all rights|rights) reserved\b|\blorem ipsum\b|\badd(?:ed)? to (?:your |my "
    r"|the )?(?:cart"
    r"|basket|bag|wish ?list|favou?rites|compare)\b|\bstock (?:photo|image|vector) #?\d"
    r"|\byour browser (?:does|doesn|is)\b|\b(?:enable|turn on|requires) (?:javascript|cookies)\b"
    r"|\b(?:skip|jump) to (?:main |the )?(?:content|navigation)|\bback to top\b"
    r"|\b(?:roll|hover|mouse)(?: your)?(?: mouse| cursor)? ?(?:over|on) (?:the |this )?(?:image"
    r"|photo"
    r"|picture|thumb)|\b(?:hover|pinch|scroll|swipe|tap) to (?:zoom|see|view|expand|read)\b"
    r"|\bshare (?:this |it )?(?:on|via|to|with) (?:facebook|twitter|pinterest|whatsapp|linkedin"
    r"|reddit|email|friends)\b|\b(?:follow|like|find|join) us (?:on|at)\b"
    r"|\b(?:sign|log) ?(?:in|up) (?:to|for|with|or|now|here)\b|\bsubscribe (?:to|now|here|for)\b"
    r"|\benter your (?:e-?mail|name|zip|password)\b|\b(?:terms (?:of (?:use|service)"
    r"|and conditions)"
    r"|privacy policy|cookie policy)\b|\bopens? in (?:a )?new (?:window|tab)\b"
    r"|\b(?:buy|order|shop|call|book|register|apply) (?:it )?now\b(?=\s*(?:$|[!.|,–-]))"
    r"|\b(?:page not found|internal server error|access denied|bad gateway)\b"
    r"|\b(?:we|site|website|page) uses? cookies\b|\b(?:accept|allow) (?:all )?cookies\b"
    r"|\bpowered by (?:wordpress|shopify|blogger|wix|squarespace|woocommerce|drupal|joomla)\b"
    r"|\bthis (?:post|page|article|entry) (?:was|has been) (?:published|posted|moved|updated)\b",
    regex.I,
)
_ZH_PHRASES = regex.compile(
    r"点击(?:此处|这里|查看|放大|图片|进入|购买|下载|下图|上图|加载|链接|关注|阅读|看|打开|播放"
    r"|观看|展开"
    r"|领取|蓝字|上方|下方|预览|显示|了解|返回)|点(?:此|这里)(?:查看|进入|下载|购买)"
    r"|单击(?:此处|图片|查看)|暂无(?:图|照|相关|数据|内容|评论|预览|简介)|(?:图片|照片|图像|视频"
    r"|页面)"
    r"(?:正在)?(?:加载|载入|无法|不能|不存在|已被|被删|未找到|找不到|暂缺|待上传|上传中|丢失"
    r"|损坏|已失效)"
    r"|加入(?:购物车|收藏夹|会员)|版权所有|长按.{0,6}(?:识别|二维码|保存)|(?:扫一扫|扫描|扫码"
    r"|识别).{0,8}"
    r"(?:关注|二维码|添加|下载|加群|加微信)|关注.{0,12}(?:公众号|微信号|官方微博)|(?:不得|禁止"
    r"|请勿|谢绝)"
    r"(?:擅自|任意|私自)?转载|立即(?:购买|抢购|下单|注册|下载|登录|咨询)|登[录陆]后(?:查看|可|才"
    r"|继续)"
    r"|(?:阅读|查看|展开|显示|浏览)(?:全文|更多|原文|详情|大图|原图|全部)|您的浏览器|(?:欢迎"
    r"|敬请)(?:来电"
    r"|咨询|选购|订购|光临|关注|致电)|上一[张页篇].{0,4}下一[张页篇]",
    regex.I,
)
# Words of the page and its buttons. A text of nothing else, with a telling one, is furniture.
_UI_WORDS = frozenset(
    """
    pending awaiting still logged must mailing copy copied sharing attached attachment queue
    screen magnify paste embed rotate flag mark read unread pause mute unmute refer invite
    accept all cookies policy agree allow we our us improve experience continue create sold
    stock powered wordpress shopify blogger while loads tweet pinterest facebook twitter
    instagram linkedin youtube whatsapp reddit google leave company site header footer sidebar
    widget install disable edit cancel choose join register buy shop cart basket wishlist
    explore discover started ago comment reply replies likes liked shares fullsize carousel
    arrow tile main featured recent popular latest trending sponsored promoted a about above
    access account add advert advertisement ads again album an and any app are article
    articles as at author available avatar back banner be been below better big bigger biggest
    blank bottom browse browser but button by can cannot captcha caption change check checkout
    clear click clicking close comments coming comparison content contents cookie could cover
    credit default delete deleted description detail details dialog display displayed do does
    doesn don download downloads email empty enable end enlarge enlarged enlargement enter
    error exist exists expand failed feed file find first follow for found from full
    fullscreen galleries gallery get go has have hd help here hero hidden hide high home hover
    icon image images in info information is isn it item items its javascript jpeg jpg just
    larger largest last learn left less lightbox like link links list load loaded loader
    loading log login logo logout low menu missing modal more my name navigation new newer
    newest newsletter next no none not now number of off ok older on online only open opens or
    original out page pages pagination photo photograph photos pic pics picture pictures pin
    placeholder play please popup post poster posts press preview previous print product
    products profile quality quick reading refresh related reload remove removed report res
    reset resolution result results retry right roll save scroll search see select server
    share show showing sign signup size sized sizes skip slide slider slides slideshow small
    soon sorry source spinner start stay stop submit subscribe support supported swipe tab tag
    tags tap tbd text that the this thumb thumbnail thumbnails thumbs title to toggle top try
    unavailable unknown untitled up update upload uploaded url use user username version video
    videos view viewer viewing views visit wait was watch web website width will window with
    won yet you your zoom zoomed
    """.split()
)
_UI_TELLING = regex.compile(
    r"\b(?:logged in|click|enlarge[dm]?\w*|loading|loader|unavailable|placeholder|thumbnails?"
    r"|thumbs?"
    r"|slideshow"
    r"|lightbox|fullscreen|fullsize|javascript|newsletter|subscribe|log ?in|signup|logged in"
    r"|logged in"
    r"|checkout|popup"
    r"|advert(?:isement)?|username|pagination|captcha|avatar|spinner|untitled|navigation"
    r"|uploaded?)\b"
    r"|\b(?:no|not|missing|default|blank|empty|unknown) (?:\w+ ){0,2}?(?:image|photo|picture"
    r"|photograph|pic"
    r"|thumbnail|logo|available|found|exist\w*|icon|video|preview|cover|title|name|user|results?)\b"
    r"|\b(?:coming soon|(?:view|see|show|read|load|learn|find|get|browse"
    r"|discover) (?:\w+ )?(?:more|all"
    r"|less|full|larger?|bigger|gallery|details?|original|photos?|images?|pictures?|post|page"
    r"|slideshow)"
    r"|full (?:size|screen|view|resolution)|quick (?:view|look|shop)|larger? (?:view|version"
    r"|image|size)"
    r"|(?:next|previous|prev|first|last) (?:image|photo|picture|slide|page|post|article|item)"
    r"|(?:image|photo|picture|slide|page|item) \d+ ?(?:of|/) ?\d+|sign (?:up|out)|(?:^"
    r"|or )(?:sign|log) in|log out"
    r"|please wait|page not|new (?:window|tab)|scroll (?:down|up|to)|tap (?:to|here|on)|go to"
    r"|swipe (?:to|left|right|up)|zoom (?:in|out)|(?:in|out|to) zoom|download (?:image|photo"
    r"|picture|file"
    r"|full|original|hd|now|this)|high(?:er)? res\w*|play video|watch video|(?:image|photo"
    r"|picture) (?:error"
    r"|source|link|url|credit|loading|preview|title|caption|description|viewer|upload)"
    r"|(?:user|profile|account) (?:icon|photo|image|picture|pic|name)|related (?:post|image|product"
    r"|article|video|photo|item)s?|share (?:this|on|it)|print page|skip to|back to|error \d+"
    r"|\d+ error"
    r"|try again|page \d+|open image|alt text|sold out|(?:out of|in) stock|powered by"
    r"|leave a (?:comment|reply)"
    r"|(?:featured|hero|header|main|cover|banner|stock|sample|test) (?:image|photo|picture)"
    r"|(?:photo|image|picture|video) (?:gallery|slider|carousel|slideshow)"
    r"|(?:company|site|header|footer|website|brand) logo|while (?:the |this )?\w+ loads)\b",
    regex.I,
)
# A short text that begins with an order to the reader, of words of the page alone.
_UI_ORDER = regex.compile(
    r"(?:please |you can |to )?(?:close|continue|browse|accept|create|save|tweet|pin|share|download"
    r"|upload|subscribe|leave|comment|reply|like|follow|reload|refresh|retry|select|choose"
    r"|submit|cancel"
    r"|skip|search|sign|log|register|join|enter|print|zoom|expand|collapse|toggle|install|enable"
    r"|disable"
    r"|edit|delete|remove|add|magnify|swipe|scroll|copy|report|hide|show|press|buy|shop|order"
    r"|explore|discover|learn|get|enlarge|click|tap"
    r"|wait)\s+\S+"
)
_UI_LATIN = regex.compile(r"[a-z]+")
# A text of the page's words that speaks of a medium shows nothing, unless it names a thing to see.
_UI_MEDIA = frozenset(
    """
    image images photo photos picture pictures pic pics photograph photographs thumbnail
    thumbnails gallery galleries caption link links file files slide slides post posts page
    pages
    """.split()
)
_UI_SEEN = frozenset(
    """
    arrow banner basket button cart cover home icon logo main play poster print screen tag
    tags video watch window wordpress facebook twitter instagram youtube whatsapp google
    """.split()
)
# Each phrase holds one of these words; a look at the words costs a tenth of the pattern.
_PHRASE_WORDS = frozenset(
    """
    use uses accept allow powered click clicking tap tapping available found unavailable
    missing removed deleted coming failed cannot supported result reserved lorem cart basket
    bag wish wishlist favorites favourites favorite favourite compare stock browser enable
    turn requires skip jump back roll hover mouse pinch scroll swipe share follow like find
    join sign log subscribe enter terms policy opens open buy order shop call book register
    apply page server access gateway this yet uploaded provided selected login signup signin
    """.split()
)
_UI_ZH = regex.compile(
    r"无图|精彩|售罄|已?售完|缺货|下架|库存|到货|客服|点击|点此|单击|双击|轻触|长按|扫一扫|扫码"
    r"|扫描"
    r"|二维码|加载|载入|暂无|暂时|没有|无法|不能"
    r"|不存在|已?删除|失效|查看"
    r"|更多|下一|上一|返回|首页|主页|顶部|登[录陆]|注册|关注|分享|转发|收藏|点赞|评论|下载|立即"
    r"|马上|购买|购物车|加入"
    r"|敬请|期待|默认|头像|缩略图|占位|展开|收起|全文|原文|阅读|浏览|打开|关闭|进入|侵权|必究"
    r"|转载|授权|请稍[候后]"
    r"|稍[候后等]|刷新|重试|重新|原图|大图|小图|放大|缩小|高清|显示|隐藏|图片|照片|图像|相片"
    r"|视频|相关|全部|所有|内容"
    r"|详情|页面|网页|网站|微信|公众号|微博|朋友圈|空间|客户端|用户|链接|按钮|识别|搜索|商品"
    r"|产品|发表|回复|失败|成功"
    r"|正在|完整|清晰|尺寸|推荐|热门|最新|专题|目录|导航|广告|赞助|帮助|反馈|举报|提交|取消|确定"
    r"|确认|保存|继续|跳过"
    r"|播放|暂停|预览|上传|未找到|错误|可以|我们|您的|你的|版权"
)
_UI_ZH_WEAK = regex.compile(
    r"[图张页篇个条的了可以请后前到至该此这那被已不未经得无中下上有您你我看点里好吧和或与及在为是将]"
)
_UI_ZH_NEUTRAL = regex.compile(r"^(?:图片|照片|图像|相片|视频|商品|产品|微信|高清|内容)+$")
_HAN = regex.compile(r"\p{Han}")


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
    plain = lower.replace("'", " ").replace("’", " ")
    if _UI_TELLING.search(plain) or _UI_ORDER.match(plain):
        return True
    return len(words) > 1 and not _UI_MEDIA.isdisjoint(words) and _UI_SEEN.isdisjoint(words)


def _is_chinese_furniture(text: str, latin: list[str]) -> bool:
    if _UI_ZH_NEUTRAL.match(text) or _UI_ZH.search(text) is None:
        return False
    rest = _UI_ZH_WEAK.sub("", _UI_ZH.sub("", text))
    return _HAN.search(rest) is None and all(word in _UI_WORDS for word in latin)
