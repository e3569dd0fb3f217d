"""Questions that ``glmcore infer`` has at hand. Pure data, written for this project.

EXAMPLES stand in for the user's own (``--question-from 1``) where none is given: texts to read and questions about
them, of more tokens than one round of 256. SELF_TEST (``--question-from 2``) are short ones.
"""

from __future__ import annotations

EXAMPLES = (
    """请阅读下文并回答问题：这篇文章涉及了哪些单位？哪些人？什么事？是正面还是负面？

清河县图书馆在一楼大厅开出了一间“旧机修理室”。发起人是县职业学校的教师顾怀远和图书馆馆员林小满。
两年前，馆里有十一台电脑开不了机，报修单积了一抽屉。林小满在整理这些单子时发现，写着“不能用”的机器里，一半只是接线松动、风扇积灰，或者装错了驱动程序。
她找到顾怀远，问学生们能不能来看一看。顾怀远说：“修好一台机器，先要弄清楚它为什么坏；说不清原因，就不要动手。”他把这句话写在修理室的黑板上，又加了一句：“动过的每一步都要记下来，改错了要能退回去。”
从那以后，每个星期六上午，十几名学生轮流值班。他们先记录故障现象，再逐项检查，最后才动手修理，并把经过写进一本厚厚的册子。到今年九月，修理室一共修好了二百三十七台旧电脑，其中一百六十台送给了河西、南坪两所乡村小学。
县教育局上个月派人来看过，决定把这种做法推广到另外三所学校。河西小学的校长秦玉兰在感谢信里写道：“孩子们第一次自己打开了机箱，也第一次知道，坏了的东西不一定要扔掉。”
也有人提出意见。居民何伯安认为，星期六的大厅太吵，影响老人看报。图书馆为此在二楼另辟了一间安静的阅览室，并把修理的时间缩短了一个小时。
修理室的册子如今已写到第四本。最新的一页上写着：“主板无故障，原因是内存条没有插到底。”
""",
    """Read the text and answer: which organisations, people and events does it tell of? Is it favourable or not?

The ferry between Aldermouth and the island of Sell was to be withdrawn in spring. The county's transport office had
counted eleven passengers on a winter's day and found that each crossing cost ninety pounds more than it earned.
Maren Holt, who keeps the post office on Sell, did not write a petition. She asked the harbour master, Idris Penn, for
his log books, and spent four evenings copying the figures of nineteen years onto one long roll of paper. They showed
that the boat was empty on the days when it left before the bus from town had come in, and well filled on all others.
The timetable of the bus had been changed by the county itself, six years earlier; nobody had told the harbour.
At the hearing in January she unrolled the paper along the floor. The engineer of the transport office, Anneke Vos, went
down on her knees to read it, and said after a while that it was the best evidence she had been shown in that room.
The ferry now leaves twenty minutes later. In its first month it carried four thousand passengers, a third more than in
any February before, and the office has put off its decision for two years. The Aldermouth Gazette, which had called the
island's protest sentimental, printed a drawing of the roll on its front page. Idris Penn has bought a new log book.
""",
)

SELF_TEST = (
    "你好",
    "用三句话说明什么是光合作用。",
    "把下面的句子翻译成英文：早起的鸟儿有虫吃。",
    "小明有 12 个苹果，送给同学 5 个，又买了 8 个，现在有几个？请写出过程。",
    "写一首关于秋天的四行短诗。",
    "给“数据备份”下一个定义，并举两个例子。",
    "What is the difference between a process and a thread?",
    "Name three rivers in Asia and the seas they flow into.",
    "Write a Python function that tells whether a word is a palindrome.",
    "Summarise in one sentence why the sky is blue.",
)


def chosen(questions: tuple[str, ...], first: int, count: int) -> list[str]:
    """``count`` of them from number ``first`` on, round and round as the document's own program takes them."""
    return [questions[(first + number) % len(questions)] for number in range(count)]
