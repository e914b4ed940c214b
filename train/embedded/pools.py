"""Values for the embedded rows. Every fourth of a pool is kept for the held-out rows."""

from __future__ import annotations

POOLS: dict[str, tuple[str, ...]] = {
    "city": (
        "Paris", "Tokyo", "São Paulo", "Nairobi", "Zürich", "Oslo", "Kraków", "Lima", "Chicago",
        "Cairo", "Malmö", "Seoul", "New York", "Lagos", "Reykjavík", "Hanoi", "Boston", "Córdoba",
        "Dublin", "Mumbai", "St. John's", "Kyoto", "Porto", "Ankara", "Coeur d'Alene", "Denver",
        "Gdańsk", "Quito", "Berlin", "Perth", "Łódź", "Austin",
    ),
    "person": (
        "Maria Lopez", "Sean O'Brien", "Zoë Kravitz", "Tom Baker", "Aisha Khan", "Jürgen Weiß",
        "Li Wei", "Nora D'Angelo", "Peter Novak", "José García", "Emma Stone", "Kwame Mensah",
        "Anna Müller", "Björn Dahl", "Grace Lee", "Ravi Patel", "Chloé Martin", "Ivan Petrov",
        "Siobhán O'Neill", "Omar Haddad", "Yuki Tanaka", "Lucas Silva", "Fatima Zahra", "Dan Brown",
    ),
    "company": (
        "Acme Corp", "Globex", "Initech", "Umbrella Ltd", "Stark Industries", "Wayne Enterprises",
        "Soylent", "Hooli", "Vandelay", "O'Reilly Media", "Tyrell", "Cyberdyne", "Wonka & Sons",
        "Massive Dynamic", "Pied Piper", "Bluth Company",
    ),
    "ticker": (
        "AAPL", "TSLA", "NVDA", "MSFT", "GOOG", "AMZN", "META", "NFLX", "INTC", "ORCL", "IBM", "SAP",
        "ASML", "SHEL", "NKE", "SONY",
    ),
    "date": (
        "2026-01-15", "2026-02-03", "2026-03-28", "2026-04-09", "2026-05-21", "2026-06-30",
        "2026-07-04", "2026-08-17", "2026-09-12", "2026-10-31", "2026-11-05", "2026-12-24",
        "2027-01-02", "2027-02-14", "2027-03-19", "2027-04-26", "2027-05-08", "2027-06-11",
    ),
    "time": (
        "07:30", "08:15", "09:00", "10:45", "11:20", "12:05", "13:30", "14:00", "15:10", "16:40",
        "17:25", "18:00", "19:45", "20:30", "21:15", "22:50",
    ),
    "title": (
        "Budget review", "Team lunch", "Project kickoff", "Dentist", "Yoga class", "Sprint planning",
        "Mom's birthday", "Code review", "Piano lesson", "Board meeting", "Kid's recital",
        "1:1 with the \"boss\"", "Launch party", "Design critique", "Q3 retrospective",
        "Parents' evening", "Car service", "Book club", "Demo {final}", "Flight to Rome",
    ),
    "sentence": (
        "I'll be ten minutes late", "The parcel has arrived", "Don't forget the keys",
        "Can we talk tomorrow?", "Dinner is ready", "The server's down again", "See you at noon",
        "Let's meet at \"Café Noir\"", "Thanks for yesterday", "Build {42} failed",
        "Happy birthday, dear friend!", "Please call me back", "The train is delayed",
        "It's raining here", "Buy milk and bread", "Good luck with the exam", "We won the match",
        "Crème brûlée tonight", "The code is 4471", "Meeting moved to Friday",
    ),
    "product": (
        "wireless mouse", "desk lamp", "running shoes", "coffee grinder", "yoga mat", "backpack",
        "water bottle", "mechanical keyboard", "office chair", "phone case", "tent", "umbrella",
        "noise-cancelling headphones", "electric kettle", "children's bike", "travel pillow",
        "sketchbook", "raincoat", "cast-iron pan", "rain boots",
    ),
    "food": (
        "tomatoes", "basil", "chicken", "rice", "garlic", "mushrooms", "spinach", "eggs", "salmon",
        "lentils", "feta", "potatoes", "tofu", "jalapeños", "lemon", "carrots", "avocado", "beans",
        "ginger", "pasta",
    ),
    "dish": (
        "lasagna", "pad thai", "shepherd's pie", "ramen", "paella", "chili con carne", "ratatouille",
        "tacos", "goulash", "crêpes", "sushi", "falafel", "gnocchi", "jollof rice", "moussaka",
        "pho",
    ),
    "movie": (
        "Inception", "Amélie", "The Matrix", "Ocean's Eleven", "Parasite", "Casablanca", "Alien",
        "Spirited Away", "Rosemary's Baby", "Gladiator", "Up", "Das Boot", "Moonlight", "Jaws",
        "Roma", "Her",
    ),
    "book": (
        "Dune", "The Hobbit", "Ulysses", "Sophie's World", "Beloved", "Emma", "The Trial", "Momo",
        "Handmaid's Tale", "Les Misérables", "Persuasion", "Neuromancer", "Middlemarch", "Solaris",
        "Walden", "It",
    ),
    "song": (
        "Imagine", "Yesterday", "Clair de Lune", "Bohemian Rhapsody", "Hey Jude", "La Vie en rose",
        "Don't Stop Me Now", "Hallelujah", "Despacito", "Gymnopédie No. 1", "Thriller", "Africa",
        "Wonderwall", "Jolene", "Purple Rain", "Creep",
    ),
    "word": (
        "serendipity", "ephemeral", "ubiquitous", "sonder", "petrichor", "quixotic", "laconic",
        "naïve", "zeitgeist", "candid", "mellow", "obtuse", "lucid", "verbose", "wry", "stoic",
    ),
    "language": (
        "French", "German", "Japanese", "Spanish", "Swahili", "Polish", "Korean", "Italian",
        "Turkish", "Hindi", "Dutch", "Greek",
    ),
    "currency": ("USD", "EUR", "JPY", "GBP", "CHF", "BRL", "INR", "SEK", "CAD", "PLN", "MXN", "NOK"),
    "tag": (
        "work", "urgent", "home", "ideas", "travel", "health", "finance", "family", "school",
        "recipes", "garden", "music",
    ),
    "email": (
        "ana@example.com", "bob.smith@example.org", "c.lee@example.net", "dev-team@example.com",
        "erik@example.org", "fay.o'neil@example.com", "g_ito@example.net", "hr@example.org",
        "info@example.com", "jo.park@example.net", "k.mbeki@example.org", "lea@example.com",
    ),
    "street": (
        "12 Oak Street", "7 King's Road", "48 Rue de Rivoli", "221B Baker Street", "5 Elm Avenue",
        "90 Harbour Lane", "3 Goethestraße", "16 Queen's Walk", "77 Sunset Blvd", "1 Calle Mayor",
        "34 Maple Drive", "60 Station Road",
    ),
    "file": (
        "report.pdf", "notes.txt", "budget_2026.xlsx", "photo (1).jpg", "cv_final.docx", "main.py",
        "slides-v2.pptx", "data.csv", "Müller.pdf", "readme.md", "song.mp3", "logo.svg",
    ),
    "folder": (
        "Documents", "Invoices", "Holiday photos", "Archive", "Work", "Q3 reports", "Receipts",
        "Music", "Backups", "Drafts", "Contracts", "School",
    ),
    "room": (
        "kitchen", "bedroom", "living room", "garage", "hallway", "office", "bathroom", "attic",
        "kids' room", "basement", "dining room", "porch",
    ),
    "animal": (
        "red fox", "blue whale", "snow leopard", "barn owl", "sea otter", "Père David's deer",
        "honey badger", "emperor penguin", "axolotl", "koala", "lynx", "puffin",
    ),
    "plant": (
        "monstera", "lavender", "rose", "aloe vera", "orchid", "basil plant", "bonsai", "fern",
        "cactus", "tulip", "ivy", "peony",
    ),
    "sport": (
        "tennis", "football", "basketball", "cricket", "rugby", "hockey", "baseball", "volleyball",
        "golf", "judo", "rowing", "handball",
    ),
    "team": (
        "Arsenal", "Lakers", "Real Madrid", "Blue Jays", "Ajax", "Bayern München", "Red Sox",
        "All Blacks", "Celtic", "Boca Juniors", "Bulls", "Yankees",
    ),
    "status": (
        "in transit", "delivered", "pending", "on hold", "completed", "scheduled", "active", "ready",
    ),
    "weather": (
        "sunny", "cloudy", "light rain", "snow showers", "windy", "foggy", "thunderstorms", "clear",
    ),
}
