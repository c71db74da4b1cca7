"""Facts and words from which the ladder's questions are made; all of it is common knowledge, written for this project."""

# ruff: noqa: E501  # tables of words, one a line or a paragraph

CAPITALS = """France:Paris Germany:Berlin Italy:Rome Spain:Madrid Portugal:Lisbon Greece:Athens Austria:Vienna Hungary:Budapest
Poland:Warsaw Norway:Oslo Sweden:Stockholm Finland:Helsinki Denmark:Copenhagen Ireland:Dublin Belgium:Brussels Romania:Bucharest
Bulgaria:Sofia Croatia:Zagreb Serbia:Belgrade Ukraine:Kyiv Russia:Moscow Turkey:Ankara Egypt:Cairo Morocco:Rabat Algeria:Algiers
Tunisia:Tunis Kenya:Nairobi Ethiopia:Addis_Ababa Ghana:Accra Nigeria:Abuja Senegal:Dakar Uganda:Kampala Zambia:Lusaka
Zimbabwe:Harare Angola:Luanda Japan:Tokyo China:Beijing India:New_Delhi Pakistan:Islamabad Nepal:Kathmandu Thailand:Bangkok
Vietnam:Hanoi Indonesia:Jakarta Malaysia:Kuala_Lumpur Philippines:Manila Mongolia:Ulaanbaatar Iran:Tehran Iraq:Baghdad
Syria:Damascus Lebanon:Beirut Jordan:Amman Qatar:Doha Oman:Muscat Canada:Ottawa Mexico:Mexico_City Cuba:Havana Jamaica:Kingston
Panama:Panama_City Colombia:Bogota Venezuela:Caracas Ecuador:Quito Peru:Lima Chile:Santiago Argentina:Buenos_Aires
Uruguay:Montevideo Paraguay:Asuncion Brazil:Brasilia Australia:Canberra Fiji:Suva Iceland:Reykjavik Estonia:Tallinn Latvia:Riga
Lithuania:Vilnius Slovenia:Ljubljana Slovakia:Bratislava Albania:Tirana Georgia:Tbilisi Armenia:Yerevan Kazakhstan:Astana
Afghanistan:Kabul Bangladesh:Dhaka Cambodia:Phnom_Penh Laos:Vientiane Rwanda:Kigali Mozambique:Maputo Madagascar:Antananarivo"""

SYMBOLS = """hydrogen:H helium:He carbon:C nitrogen:N oxygen:O sodium:Na magnesium:Mg aluminium:Al silicon:Si sulfur:S chlorine:Cl
potassium:K calcium:Ca iron:Fe copper:Cu zinc:Zn silver:Ag tin:Sn gold:Au mercury:Hg lead:Pb uranium:U neon:Ne nickel:Ni
tungsten:W platinum:Pt iodine:I phosphorus:P lithium:Li titanium:Ti"""

CONTINENTS = """Kenya:Africa Peru:South_America Norway:Europe Vietnam:Asia Canada:North_America Ghana:Africa Chile:South_America
Poland:Europe Nepal:Asia Cuba:North_America Morocco:Africa Bolivia:South_America Greece:Europe Mongolia:Asia Honduras:North_America
Zambia:Africa Uruguay:South_America Denmark:Europe Cambodia:Asia Jamaica:North_America Senegal:Africa Ecuador:South_America
Latvia:Europe Jordan:Asia Guatemala:North_America"""

OPPOSITES = """hot:cold big:small|little|tiny fast:slow early:late full:empty hard:soft|easy heavy:light old:new|young open:closed|shut|close
rich:poor strong:weak wet:dry wide:narrow high:low loud:quiet|silent near:far sharp:dull|blunt true:false above:below|under|beneath
accept:reject|refuse|decline arrive:depart|leave ancient:modern|new|contemporary brave:cowardly|afraid|fearful|timid|coward|cowardice
buy:sell generous:stingy|selfish|greedy|mean|miserly increase:decrease|reduce victory:defeat|loss rise:fall|descend|sink|set
expand:contract|shrink|compress|collapse import:export|exported maximum:minimum polite:rude|impolite permanent:temporary|impermanent
simple:complex|complicated|difficult shallow:deep smooth:rough|coarse"""

PLURALS = """child:children mouse:mice goose:geese tooth:teeth foot:feet man:men woman:women ox:oxen leaf:leaves knife:knives wolf:wolves
city:cities baby:babies box:boxes bus:buses church:churches hero:heroes potato:potatoes cactus:cacti|cactuses sheep:sheep life:lives
shelf:shelves half:halves berry:berries story:stories crisis:crises person:people|persons"""

PASTS = """go:went see:saw buy:bought think:thought bring:brought catch:caught teach:taught write:wrote drive:drove swim:swam eat:ate
fall:fell fly:flew begin:began choose:chose freeze:froze speak:spoke break:broke wear:wore steal:stole shake:shook hide:hid bite:bit
draw:drew grow:grew know:knew throw:threw"""

PEOPLE = [
    "Alice",
    "Omar",
    "Chen",
    "Maria",
    "Tom",
    "Priya",
    "Lars",
    "Fatima",
    "Diego",
    "Yuki",
    "Nadia",
    "Peter",
    "Amara",
    "Ivan",
    "Grace",
    "Hugo",
    "Leila",
    "Marco",
    "Nina",
    "Samuel",
    "Zoe",
    "Victor",
    "Elena",
    "Kofi",
    "Ruth",
    "Anton",
    "Bella",
    "Carl",
]

SURNAMES = [
    "Novak",
    "Okafor",
    "Lindqvist",
    "Moreau",
    "Tanaka",
    "Silva",
    "Haddad",
    "Keller",
    "Murphy",
    "Petrov",
    "Rossi",
    "Nguyen",
    "Schmidt",
    "Jensen",
    "Castillo",
    "Baker",
    "Olsen",
    "Farouk",
    "Weiss",
    "Dubois",
]

THINGS = [
    "apples",
    "pencils",
    "books",
    "marbles",
    "stickers",
    "cookies",
    "coins",
    "shells",
    "stamps",
    "candles",
    "oranges",
    "balloons",
    "cards",
    "buttons",
]

WORDS = [
    "river",
    "stone",
    "garden",
    "window",
    "bottle",
    "market",
    "silver",
    "yellow",
    "orange",
    "basket",
    "candle",
    "dragon",
    "engine",
    "forest",
    "guitar",
    "hammer",
    "island",
    "jacket",
    "kitten",
    "ladder",
    "mirror",
    "needle",
    "pepper",
    "rabbit",
    "saddle",
    "temple",
    "umbrella",
    "violin",
    "walnut",
    "zebra",
    "anchor",
    "bridge",
    "castle",
    "desert",
    "falcon",
    "glacier",
    "harbor",
    "lantern",
    "meadow",
    "orchard",
    "planet",
    "pocket",
    "ribbon",
    "shadow",
    "thunder",
    "tunnel",
    "valley",
    "winter",
    "copper",
    "cotton",
    "cradle",
]

PRODUCTS = [
    "phone",
    "laptop",
    "blender",
    "hotel",
    "restaurant",
    "novel",
    "movie",
    "headset",
    "vacuum",
    "backpack",
    "camera",
    "coffee_machine",
    "mattress",
    "bicycle",
    "printer",
    "jacket",
    "game",
    "airline",
    "tablet",
    "lamp",
]

PRAISE = """The {x} works perfectly and I would buy it again.|I love this {x}, it made my week.|Best {x} I have ever had, worth every cent.
The {x} exceeded all my expectations.|Fantastic {x}, fast delivery and friendly support.|I am delighted with the {x}; everything just works.
What a wonderful {x}, I recommend it to everyone.|The {x} is reliable, quiet and easy to use.
After a month the {x} still feels brand new, superb.|My whole family enjoys the {x} every day."""

BLAME = """The {x} broke after two days and nobody answered my calls.|I regret buying this {x}, a complete waste of money.
Worst {x} ever, I want a refund.|The {x} was dirty, noisy and far too expensive.|Terrible {x}; it never did what was promised.
I am deeply disappointed with the {x}.|The {x} arrived damaged and the seller was rude.|Avoid this {x}, it fails when you need it most.
The {x} is slow, ugly and unreliable.|Nothing about the {x} was worth the price."""

TWISTED = """I expected to hate the {x}, but it won me over completely.:positive
Not bad at all: the {x} did everything I hoped for.:positive
The {x} looks cheap, yet it has never let me down and I adore it.:positive
I was told the {x} would be great. It was not.:negative
The {x} could have been good if it had worked for more than an hour.:negative
Everyone praises the {x}; I honestly cannot see why, I sent mine back.:negative
It is hard to find anything wrong with the {x}.:positive
The only good thing about the {x} is that I could return it.:negative
I can't complain about the {x}; my only worry is that I use it too much.:positive
So much for the famous {x}: it lasted exactly one evening.:negative"""

TOPICS = {
    "sports": """The striker scored twice in the final minutes to win the cup.|Her serve gave her the tennis title in straight sets.
The marathon runner broke the course record by nine seconds.|The coach changed the defence before the second half.
The goalkeeper saved three penalties in the shootout.|The cyclist took the yellow jersey in the mountains.
The relay team dropped the baton and lost its medal.|Fans cheered as the rookie hit a home run.""",
    "politics": """The parliament passed the new tax bill by a narrow vote.|The senator announced her campaign for president.
The two governments signed a border treaty.|The minister resigned after the committee's report.
Voters will choose a new mayor on Sunday.|The opposition asked for a recount of the ballots.
The prime minister reshuffled the cabinet.|The council debated the election law all night.""",
    "science": """Astronomers found water vapour around a distant planet.|The lab measured how the enzyme folds at low temperature.
A new telescope mapped the oldest galaxies.|Researchers sequenced the genome of an ancient plant.
The experiment confirmed the particle's predicted mass.|Geologists dated the rock to two billion years.
A vaccine trial showed strong antibodies in mice.|The probe sent back data about the comet's dust.""",
    "business": """The company raised its profit forecast for the quarter.|Shares fell after the bank missed its earnings target.
The start-up sold a third of its stock to investors.|The retailer will close forty stores to cut costs.
The merger creates the largest steel maker in the region.|The airline ordered sixty new jets to meet demand.
Inflation pushed the central bank to lift interest rates.|The chief executive announced a dividend for shareholders.""",
    "food": """Simmer the onions in butter until they turn golden.|The baker lets the dough rise twice before shaping it.
A pinch of saffron gives the rice its colour.|Serve the soup with toasted bread and fresh basil.
Marinate the chicken in lemon and garlic overnight.|Whisk the eggs with sugar until the cream is pale.
The chef roasts the pumpkin with chili and honey.|Fold the chocolate into the batter and bake for an hour.""",
}

COLOURS = ["red", "blue", "green", "yellow", "black", "white", "purple", "brown"]
CITIES = ["Lisbon", "Oslo", "Cairo", "Lima", "Toronto", "Kyoto", "Dublin", "Prague", "Nairobi", "Vienna"]
JOBS = ["nurse", "pilot", "teacher", "baker", "lawyer", "plumber", "architect", "farmer", "dentist", "painter"]
PETS = ["cat", "dog", "parrot", "rabbit", "hamster", "turtle"]
DRINKS = ["tea", "coffee", "milk", "juice", "water", "cocoa"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def pairs(text: str) -> list[tuple[str, list[str]]]:
    """Reads `question:answer|answer` words; `_` stands for a space."""
    found = []
    for word in text.split():
        left, right = word.split(":")
        found.append((left.replace("_", " "), [one.replace("_", " ") for one in right.split("|")]))
    return found
