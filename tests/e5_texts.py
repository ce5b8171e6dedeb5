"""Texts to compare models on: tickets and oddities, Chinese, English and mixed, from one word to over a hundred."""

SHORT = (
    "delivery", "refund", "account", "退款", "快递", "密码", "hi", "ok", "？", "!!!", "123", "A", "谢谢", "🙂", "no",
)  # fmt: skip

ENGLISH = (
    "Where is my parcel? It was supposed to arrive on Monday.",
    "i want my money back!!! order #20391-B never came",
    "Cannot log in since the last update, the app says 'session expired'.",
    "The soup had spilled all over the bag and the noodles were cold.",
    "Please cancel my subscription before the 14th, I do not need it any more.",
    "The courier left the box in the rain, everything inside is ruined",
    "How do I change the e-mail address of my account?",
    "charged twice, 2 x $39.90 on 3/11, pls fix asap",
    "Great service, thank you so much to the woman at the counter!",
    "teh pasword reset link dosnt work, tried 3 tiems",
    "Is there a student discount on the yearly plan?",
    "My invoice shows the wrong VAT number (should be DE811907980).",
    "the left earbud stopped charging after two days",
    "WHY IS NOBODY ANSWERING THE PHONE",
    "Do you ship to Iceland, and how long would it take?",
    "Two of the six glasses were broken when I opened the box.",
    "It's fine, but the manual is only in Swedish and I don't read Swedish.",
    "http://example.com/track?id=88123 says delivered, yet there is nothing in the letter box",
)

CHINESE = (
    "我的包裹三天了还没到，能帮我查一下吗？",
    "外卖送得太慢了，菜都凉了，汤也洒了一袋子",
    "申请退款已经一周了，钱还没有到账",
    "登录不了账号，验证码一直收不到",
    "客服态度非常好，问题很快就解决了，点赞！",
    "订单号 20240311-8841，地址写错了，可以改吗",
    "手机充电的时候特别烫，屏幕还有一条绿线",
    "请问发票可以开公司抬头吗？税号怎么填？",
    "会员到期自动续费了，我没有同意过，请退钱",
    "衣服颜色跟图片完全不一样，尺码也偏小",
    "快递员没打电话就把东西放在门口，结果丢了",
    "优惠券为什么用不了，明明还没有过期",
    "忘記密碼了，換了手機號也收不到簡訊",
    "食物里面吃出一根头发，太恶心了",
    "這個耳機的音質很好，但是戴久了耳朵會痛",
    "怎么取消订单？？？",
    "什么时候发货啊，都等了五天了……",
    "电视打不开，红灯一直闪",
)

MIXED = (
    "我的 order #88123 显示 delivered，但是根本没收到 package",
    "App 闪退了，error code 0x80070005，iPhone 14 Pro Max",
    "refund 什么时候到？已经 10 个工作日了",
    "快递 late again 😡😡😡 第三次了",
    "Please 帮我 check 一下 tracking number SF1234567890",
    "😀😃😄 love it ❤️ 五星好评 ⭐⭐⭐⭐⭐",
    "👍",
    "🚚💨 没到 😭",
    "¿Dónde está mi paquete? Llevo una semana esperando.",
    "Mein Paket ist beschädigt angekommen, ich möchte umtauschen.",
    "배송이 너무 늦어요",
    "荷物がまだ届いていません。",
    "\uff46\uff55\uff4c\uff4c\u3000\uff37\uff29\uff24\uff34\uff28\uff5e\uff11\uff12",
    "tabs\tand\nnew lines\r\nin\u00a0between",
    "50% off?! (was £120.00, now £60.00) -- too good to be true...",
    '{"id": 7, "text": "a ticket inside JSON"}',
)

LONG = (
    (
        "I ordered a standing desk on the second of March and paid for express delivery, which your site promised "
        "within two working days. After a week nothing had come, so I called, waited forty minutes, and was told "
        "that the parcel was held up at the depot because of a missing house number, although the number is right "
        "there on the invoice. The courier then tried to deliver at noon on a working day, left no card, and sent "
        "it back. I should like either the desk or my money, and in any case the express fee, this week please, "
        "and somebody to tell me which it will be."
    ),
    (
        "上个月在你们店里买了一台洗衣机，安装师傅来的时候说少了一根进水管，让我自己去买。我跑了两家店才买到，"
        "结果装好以后第一次用就漏水，厨房地板全泡了。打电话给售后，说要先寄回去检测，来回运费还要我自己出。"
        "请问这合理吗？机器才用了一天，我要求上门换一台新的，并且赔偿地板的损失。"
        "如果这个星期还没有人联系我，我就去消费者协会投诉，同时把整个过程发到网上。"
    ),
    (
        "Hello, 你好. My account 13800138000 被锁定了, I tried to reset the password 五次 and each time the 验证码 "
        "comes ten minutes too late, 所以一直失败. I have a meeting tomorrow morning and all my files are in there, "
        "麻烦尽快处理一下, thank you very much! 附上截图: IMG_2024.png"
    ),
    " ".join(["work"] * 120),
    "退款。" * 60,
)

TEXTS = (*SHORT, *ENGLISH, *CHINESE, *MIXED, *LONG)
