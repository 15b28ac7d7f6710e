"""Credits at the end of a caption: who took the image, who owns it, where it was found.

The paper cleans such captions and does not drop them. A text that is a credit and nothing else says
nothing about its image: `cut_credit` leaves it whole and `is_credit` finds it.
"""

import regex

# One of these words stands in every credit. Looking at the words first is cheap.
_WORDS = regex.compile(r"[a-z]+")
_TELLTALE = frozenset(
    """
    photo photos photograph photographs photography photographer image images picture pictures pic
    pics foto source sources credit credits courtesy copyright c rights stock via illustration
    illustrations art artwork video graphic getty reuters afp ap alamy shutterstock unsplash pexels
    pixabay flickr wikimedia wikipedia nasa istock istockphoto dreamstime rf adobe adobestock
    associated epa pa upi ani pti xinhua bloomberg corbis rex magnum depositphotos fotolia bigstock
    thinkstock instagram facebook pinterest gettyimages
    """.split()
)
_ZH_TELLTALE = regex.compile(
    r"[图摄]|来源|来自|源自|版权|著作权|记者|通讯员|©|供稿|侵权|侵删|转载|作者|授权|许可"
    r"|视觉中国|资料|新华社|中新社|IC|违者|编辑|撰文|：|:"
)
_AGENCY = (
    r"(?:Getty(?:\s?Images)?|REUTERS|Reuters|Thomson Reuters|AP(?: Photo| Images)?|Associated Press"
    r"|AFP|EPA|PA(?: Wire| Images)?|UPI|ANI|PTI|Xinhua|Bloomberg|Corbis|Rex(?: Features)?|Magnum"
    r"|Alamy|Shutterstock|i[Ss]tock(?:[Pp]hoto)?|Dreamstime|123RF|Deposit[Pp]hotos|Adobe ?Stock"
    r"|Fotolia|Bigstock|Unsplash|Pexels|Pixabay|Flickr|Wikimedia(?: Commons)?|Wikipedia|NASA"
    r"|ThinkStock|Thinkstock|Instagram|Facebook|Pinterest)"
)
# A name: up to seven words that hold a capital or a digit, with small words between them. A caption
# behind a colon has other words too: "Photo: rescue workers search the ruins".
_PROPER = r"[@\w.'’&/|-]*[\p{Lu}\d][\w.'’&@/|-]*"
_NAME = (
    rf"(?:the |The )?{_PROPER}(?:[\s,]+(?:{_PROPER}|[&/|–-]|of|for|and|the|in|at|on|via|by|de|la"
    rf"|van|von)"
    r"){0,7}"
)
_PHOTO = r"(?i:photo(?:s|graph|graphs|graphy|grapher)?|images?|pictures?|pics?|foto)"
_MEDIUM = rf"(?:(?i:stock )?{_PHOTO}|(?i:illustrations?|artwork|art|video|graphic))"
_START = r"(?:^|[\s,;.|/(\[–—-]+|(?<=[.!?)]))"
_APART = r"(?:^|\s*[,;.|/(\[–—]+\s*|\s+-+\s+|(?<=[.!?)])\s*)"  # more than a space before it
_END = r"[\s.)\]]*$"
_LATIN_CREDITS = tuple(
    regex.compile(pattern + _END)
    for pattern in (
        rf"{_APART}{_MEDIUM}\s*(?i:by|via|from|courtesy(?: of)?)\s*:?\s+{_NAME}",
        rf"{_APART}{_PHOTO}\s*[:©]\s*{_NAME}",
        rf"{_START}{_MEDIUM}\s+(?i:credits?|sources?|courtesy"
        rf"|copyright)\s*(?i:of\s)?[:©]?\s*{_NAME}",
        rf"{_APART}(?i:sources?|credits?|via|photographer|courtesy)\s*:\s*(?:{_NAME}|[\w.-]+)",
        # What stands behind the colon was an address, which is out.
        rf"{_APART}(?:{_PHOTO}\s+)?(?i:sources?|credits?|via)\s*:",
        rf"{_START}(?i:courtesy of)\s+{_NAME}",
        rf"{_START}(?:(?i:copyright)|©|\([cC]\))[\s©]*(?:\([cC]\)\s*)?(?:\d{{4}})?[\s,]*(?i:by\s+)?"
        rf"(?:{_NAME}|[\w.-]+)?",
        rf"{_START}(?i:all (?:rights|images) (?:are )?reserved)(?:\s+(?i:to|by)\s+{_NAME})?",
        rf"{_START}(?i:(?:royalty[- ]free|premium)\s+)?(?i:stock\s+(?:photo(?:s|graphy)?|images?"
        rf"|vectors?"
        r"|illustrations?|footage|pictures?|art))[\s#:-]*\d*",
        # The name of an agency alone needs a sign before it: "Reuters building" is none.
        r"(?:^|[.!?,;|(\[/–—]\s*|\s-\s*)(?:[\p{Lu}][\w.'-]*(?: [\p{Lu}][\w.'-]*){0,3}\s*[/|]\s*)?"
        rf"{_AGENCY}(?:\s*[/|]\s*[\p{{L}}\d .'-]{{1,40}}){{0,2}}",
    )
)  # fmt: skip

_ZH_START = r"(?:^|[\s，。；、！？,.;|/(（【\[［—–-]+|(?<=[。！？）)]))"
_ZH_END = r"[\s。．.）)】\]］]*$"
_ZH_NAME = r"[^。；：！？:;!?（(【\[]{1,20}?"
_ZH_CREDITS = tuple(
    regex.compile(_ZH_START + pattern + _ZH_END)
    for pattern in (
        rf"(?:图片|照片|图文|图|文|视频|素材|资料|数据|文章|本文|原文)?(?:来源|来自|源自"
        rf"|源)于?\s*[:：/／]\s*{_ZH_NAME}",
        rf"(?:图片|照片|图文|图|素材|配图)(?:来源|来自|源自|源|取自|摘自|转自)(?:于)?\s*{_ZH_NAME}",
        rf"(?:图|文|图文|图片|照片|供图|制图|绘图|摄影|摄影师|拍摄|摄|作者|撰文|编辑|版权|图/文"
        rf"|文/图)\s*[:：/／|©]\s*{_ZH_NAME}",
        # An outlet and a reporter, or a reporter and what was done: "a reporter asks" is neither.
        r"[\p{Han}]{1,8}(?:社|网|报|台|新闻)\s*(?:特约|实习|摄影)?(?:记者|通讯员)\s*"
        r"[\p{Han}·]{2,4}(?:[、，,\s]+[\p{Han}·]{2,4}){0,3}\s*(?:摄|摄影|供图|图|报道)?",
        r"(?:特约|实习|摄影)?(?:记者"
        r"|通讯员)?\s*[\p{Han}·]{2,4}(?:[、，,\s]+[\p{Han}·]{2,4}){0,3}\s?"
        r"(?:摄|供图|摄影报道|/?摄影)",
        rf"(?:图片|照片|图|本图)由{_ZH_NAME}(?:提供|拍摄|供图)",
        r"(?:©|\([cC]\)|版权)\s*(?:\d{4}\s*)?\p{Han}[^。；：！？:;!?（(【\[]{0,19}?",
        r"(?:版权|著作权)(?:归.{1,12}|所有|信息|声明)[^A-Za-z]{0,20}",
        r"(?:侵权(?:必究|删除?|请联系.{0,6})|侵删|如有侵权.{0,12}|违者必究)",
        r"未经.{0,10}(?:授权|许可|允许|同意)[^A-Za-z]{0,14}",
        r"(?:仅供参考)?(?:资料(?:图|照)片?|网络(?:图片|配图|图)|图片?来源网络|视觉中国"
        r"|东方\s?IC|全景网?|新华社发|中新社发|图源网络|示意图来自网络)",
    )
)  # fmt: skip
_LEFT_OVER = " \t,;|/([（【［–—-，、；"
_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{N}'’-]*")
_HAN = regex.compile(r"\p{Han}")


def cut_credit(text: str) -> str:
    """The text without the credits at its end; unchanged where too little would be left."""
    rest = _without(text)
    return rest if _says_enough(rest) else text


def is_credit(text: str) -> bool:
    """Whether a text that `cut_credit` has seen is a credit, with at most one word beside it."""
    return _without(text) != text


def _without(text: str) -> str:
    latin = "©" in text or not _TELLTALE.isdisjoint(_WORDS.findall(text.lower()))
    chinese = not text.isascii() and bool(_HAN.search(text) and _ZH_TELLTALE.search(text))
    patterns = (*(_LATIN_CREDITS if latin else ()), *(_ZH_CREDITS if chinese else ()))
    before = None
    while text != before:
        before = text
        for pattern in patterns:
            found = pattern.search(text)
            if found is not None:
                kept = text[: found.start()].rstrip(_LEFT_OVER)
                # The stop that ended the sentence before the credit belongs to the sentence.
                stop = text[found.start() : found.end()].lstrip()[:1]
                text = kept + stop if kept and stop in (".", "。", "!", "？", "！") else kept
    return text


def _says_enough(text: str) -> bool:
    han = len(_HAN.findall(text))
    return han >= 3 or han + len(_WORD.findall(text)) >= 2
