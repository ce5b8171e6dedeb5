"""The descriptions of crosswoz's five domains that `quality.py` measures.

They were written from what the domains are, before any row of its test file was used.
"""

from typing import Final

CROSSWOZ: Final = {
    "景点": "旅游景点、公园、博物馆：门票多少钱，游玩多长时间，开放时间，评分",
    "酒店": "住宿的酒店、宾馆：房间价格，酒店类型，设施和服务，入住",
    "餐馆": "吃饭的餐馆、饭店：推荐菜，人均消费，营业时间，味道",
    "地铁": "坐地铁：从哪个地铁站出发，到哪个地铁站，附近的地铁站",
    "出租": "打车、叫出租车：从出发地到目的地，车型和车牌号",
}
