"""Other names for the functions and parameters of training rows.

A short run would learn sixty names by heart. Since the same function is called otherwise in every
conversation, the only way to name it rightly is to read the tools that are offered.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from train.embedded.schema import FUNCTIONS, Function, Param

VERBS = {
    "get": ("fetch", "lookup", "retrieve", "check", "show", "read", "query"),
    "list": ("show", "get", "all", "fetch", "view"),
    "search": ("find", "query", "lookup", "explore", "browse"),
    "find": ("search", "query", "locate", "lookup", "discover"),
    "create": ("make", "add", "new", "build", "open"),
    "delete": ("remove", "cancel", "drop", "erase"),
    "set": ("change", "update", "adjust", "define", "put"),
    "send": ("deliver", "dispatch", "submit", "write"),
    "book": ("reserve", "order", "arrange", "request"),
    "order": ("buy", "request", "purchase", "get"),
    "place": ("make", "submit", "create"),
    "control": ("switch", "manage", "toggle", "operate"),
    "calculate": ("compute", "estimate", "work_out", "determine"),
    "convert": ("change", "exchange", "transform"),
    "transfer": ("send", "move", "pay_out"),
    "track": ("follow", "trace", "locate"),
    "add": ("put", "insert", "append"),
    "play": ("start", "queue", "stream"),
    "pause": ("stop", "halt", "hold"),
    "start": ("run", "launch", "begin"),
    "lock": ("secure", "close", "shut"),
    "move": ("relocate", "shift", "put"),
    "share": ("publish", "grant", "distribute"),
    "rate": ("review", "score", "grade"),
    "translate": ("convert", "interpret"),
    "define": ("explain", "describe", "lookup"),
    "log": ("record", "track", "save", "enter"),
    "roll": ("throw", "toss"),
    "random": ("any", "draw"),
    "generate": ("make", "create", "produce"),
    "split": ("divide", "share"),
    "plan": ("schedule", "add", "set"),
    "assign": ("give", "delegate", "hand"),
    "buy": ("purchase", "get", "order"),
    "choose": ("pick", "select", "set"),
    "refund": ("return", "reimburse"),
    "block": ("lock", "freeze", "disable"),
    "enable": ("allow", "activate", "unlock"),
}
PARAMS = {
    "access": ("permission", "right", "role"),
    "address": ("destination", "deliver_to", "location"),
    "amount": ("value", "sum", "total"),
    "attendees": ("guests", "participants", "invitees"),
    "billable": ("paid", "chargeable"),
    "body": ("content", "text", "message"),
    "brightness": ("level", "intensity", "percent"),
    "buyer": ("customer", "payer"),
    "cabin": ("seat_class", "travel_class"),
    "calories": ("kcal", "energy"),
    "card_id": ("card", "card_number"),
    "category": ("section", "ticket_type"),
    "check_in": ("arrival", "from_date", "start_date"),
    "city": ("location", "town", "place", "city_name"),
    "comment": ("remark", "note"),
    "concert_id": ("concert", "show_id"),
    "contact": ("recipient", "to", "receiver"),
    "content": ("text", "body", "note"),
    "count": ("number", "how_many", "limit"),
    "currency": ("currency_code", "unit"),
    "date": ("day", "on_date", "when"),
    "days": ("num_days", "day_count", "duration"),
    "destination": ("to", "to_city", "arrival_city"),
    "device": ("player", "output"),
    "diet": ("diet_type", "preference"),
    "dish": ("meal", "item", "food"),
    "due": ("deadline", "due_date"),
    "end": ("to", "destination", "target"),
    "event_id": ("event", "id"),
    "express": ("fast", "priority_shipping"),
    "features": ("functions", "options"),
    "file": ("filename", "document", "file_name"),
    "flight_id": ("flight", "flight_number"),
    "folder": ("directory", "target_folder"),
    "food": ("item", "ingredient"),
    "genre": ("kind", "style", "category"),
    "grams": ("weight", "amount_g"),
    "guests": ("party_size", "persons", "people"),
    "height": ("height_cm", "size"),
    "hours": ("duration", "time_spent"),
    "ingredients": ("foods", "items"),
    "language": ("target_language", "lang"),
    "length": ("size", "characters"),
    "max_price": ("price_limit", "budget", "price_max"),
    "maximum": ("upper", "max", "to"),
    "meal": ("intake", "with_food"),
    "medicine": ("drug", "medication"),
    "members": ("people", "participants"),
    "milligrams": ("dose", "dose_mg"),
    "minimum": ("lower", "min"),
    "minutes": ("duration", "length_minutes", "mins"),
    "mode": ("setting", "method"),
    "movie": ("film", "movie_title"),
    "name": ("label", "title", "called"),
    "nights": ("num_nights", "stay"),
    "note": ("memo", "reference"),
    "notify": ("send_notice", "inform"),
    "order_id": ("order", "order_number"),
    "origin": ("from_city", "departure", "departure_city"),
    "passenger": ("traveller", "passenger_info"),
    "people": ("persons", "users"),
    "period": ("interval", "per"),
    "person": ("assignee", "user"),
    "portions": ("servings", "quantity"),
    "principal": ("loan_amount", "sum"),
    "priority": ("importance", "level", "urgency"),
    "product": ("item", "article", "product_name"),
    "product_id": ("item_id", "sku"),
    "project": ("project_name", "account"),
    "public": ("visible", "is_public"),
    "quality": ("rating", "how_well"),
    "quantity": ("count", "number", "units"),
    "query": ("term", "search", "keywords", "q"),
    "rate": ("interest", "interest_rate"),
    "reason": ("cause", "why"),
    "recipient": ("to", "payee", "receiver"),
    "repeat": ("frequency", "recurrence"),
    "replace": ("replacement", "new_card"),
    "restaurant": ("venue", "place"),
    "room": ("area", "zone", "room_name"),
    "rooms": ("areas", "zones"),
    "row": ("row_number", "seat_row"),
    "seats": ("seat_numbers", "places"),
    "severity": ("level", "intensity"),
    "sides": ("faces", "dice_sides"),
    "songs": ("tracks", "titles"),
    "sort": ("order_by", "sort_by"),
    "source": ("from_currency", "base"),
    "sport": ("activity", "exercise"),
    "stars": ("rating", "score"),
    "start": ("origin", "start_address"),
    "state": ("status", "power"),
    "status": ("state", "new_status"),
    "subject": ("heading", "topic"),
    "symbols": ("special", "use_symbols"),
    "symptom": ("complaint", "sign"),
    "tags": ("labels", "keywords"),
    "target": ("to_currency", "into"),
    "task_id": ("task", "ticket"),
    "team": ("club", "team_name"),
    "temperature": ("degrees", "temp"),
    "text": ("content", "message", "body"),
    "ticker": ("symbol", "stock"),
    "time": ("at", "start_time", "hour"),
    "times": ("schedule", "hours"),
    "tip_percent": ("tip", "gratuity"),
    "title": ("label", "heading", "caption"),
    "to": ("recipient", "email", "send_to"),
    "total": ("amount", "bill"),
    "units": ("unit", "scale"),
    "voucher": ("as_voucher", "credit"),
    "weight": ("weight_kg", "mass"),
    "word": ("term", "vocable"),
    "year": ("released", "release_year"),
    "years": ("term", "duration_years"),
}
NOUNS = ("api", "tool", "service", "v2", "action", "assistant", "my", "app", "user", "request")
_KEPT = 0.4  # how often a function keeps the catalogue's names
_CATALOGUE = frozenset(function.name for function in FUNCTIONS)


@dataclass(frozen=True)
class Names:
    """What a conversation calls one function and its parameters, and how it describes it."""

    function: str
    about: str
    params: dict[str, str] = field(default_factory=dict)

    def arguments(self, values: dict[str, Any]) -> dict[str, Any]:
        """Arguments under these names."""
        return {self.params.get(key, key): value for key, value in values.items()}

    def schema(self, params: Sequence[Param]) -> tuple[Param, ...]:
        """Parameters under these names."""
        return tuple(replace(p, name=self.params.get(p.name, p.name)) for p in params)


def other_names(function: Function, taken: Collection[str], rng: random.Random) -> Names:
    """Names for one conversation, often the catalogue's own; never one of `taken`."""
    about = rng.choice((function.about, *function.also))
    while True:
        kept = rng.random() < _KEPT
        names = Names(function.name, about) if kept else _renamed(function, about, rng)
        foreign = names.function != function.name and names.function in _CATALOGUE
        if not foreign and names.function not in taken:
            return names


def _renamed(function: Function, about: str, rng: random.Random) -> Names:
    words = function.name.split("_")
    words[0] = rng.choice((words[0], *VERBS.get(words[0], ())))
    if rng.random() < 0.25:
        words.insert(rng.choice((0, len(words))), rng.choice((*NOUNS, function.domain)))
    camel = rng.random() < 0.25
    params: dict[str, str] = {}
    for param in function.params:
        name = rng.choice((param.name, *PARAMS.get(param.name, ())))
        used = {*params.values(), *(p.name for p in function.params)}
        params[param.name] = param.name if name in used else name
    if camel:
        params = {key: _camel(name.split("_")) for key, name in params.items()}
    return Names(_camel("_".join(words).split("_")) if camel else "_".join(words), about, params)


def _camel(words: list[str]) -> str:
    return words[0] + "".join(word.capitalize() for word in words[1:])
