"""Words that tell languages in Latin script apart, for `language.py`.

ENGLISH holds words of captions that are common in English and mean nothing, or are rare, in other
languages. So "in", "was", "man" (German), "on" (French), "red", "come", "son" (Spanish) are not in
it. OTHERS holds words of other languages that an English caption does not have; it leaves out what
names are made of (de, la, van, der, al, di, del).
"""

ENGLISH = frozenset(
    """
    the and with for from by this that these those are were his her their its of at to under
    over between behind near through during after before while who which what where when how
    why there you your our my they them she he we us it is be been being has have had do does
    will would can could should not without into onto up down out off above below around
    across along against inside outside beside toward towards about than then very more most
    some any each every both other another many much few several all only just also still here
    new old young little big small large long short high low great best good better first last
    next two three four five six seven eight nine ten one hundred half

    man men woman women people person boy girl child children kid kids baby babies family
    couple group crowd friends friend mother father mom dad brother sister husband wife lady
    gentleman player players team worker workers student students teacher doctor soldier
    soldiers artist actor actress singer president king queen prince princess bride groom
    police officer farmer dog dogs cat cats horse horses bird birds cow sheep fish bear
    elephant lion tiger monkey rabbit duck bee butterfly chicken puppy kitten deer wolf fox
    snake mouse pig goat eagle owl beach sea ocean lake river water mountain mountains hill
    hills forest tree trees flower flowers leaf leaves grass garden field fields sky cloud
    clouds sunset sunrise snow rain storm wind sun moon star stars island desert valley
    waterfall rock rocks stone stones sand road street path bridge town village city country
    world earth land coast shore countryside landscape wildlife house houses home building
    buildings church castle tower temple window windows door doors wall walls roof floor room
    bedroom bathroom kitchen living dining office school classroom store shop market station
    airport hospital library museum theater theatre stadium apartment cabin cottage barn yard
    porch hallway stairs fence gate car cars truck bus train bike bicycle motorcycle boat
    boats ship plane airplane aircraft engine wheel wheels tire driver driving vehicle table
    chair chairs bed sofa couch desk lamp lights light mirror clock book books box bag bags
    bottle cup glass glasses bowl plate knife spoon fork basket phone computer keyboard screen
    camera picture pictures painting drawing poster sign map card cards letter paper pen
    pencil toy toys doll ball game games ring necklace bracelet earrings jewelry watch wallet
    belt hat hats shirt shirts dress dresses shoes shoe boots sneakers pants jeans jacket coat
    skirt suit socks gloves scarf sweater hoodie clothing clothes outfit tee sleeve sleeveless
    shorts swimsuit leather cotton wool silk wood wooden steel stainless silver golden gold
    iron brass plastic rubber black white blue green yellow orange purple pink brown gray grey
    dark bright colorful coloured colored color colour striped floral vintage handmade antique
    modern rustic bread cake cheese apple apples fruit fruits vegetable vegetables potato
    potatoes tomato tomatoes carrot onion lemon strawberry strawberries berries grapes meat
    beef pork rice eggs egg milk butter sugar salt pepper tea coffee beer wine juice soup
    salad sandwich cookies cookie chocolate cream ice breakfast lunch dinner meal food dish
    dishes drink drinks recipe baked fried grilled roasted homemade fresh delicious healthy
    eye eyes hair face head hand hands arm arms leg legs foot feet body skin smile smiling
    nose mouth finger shoulder back front side top bottom left right middle center corner edge
    end standing sitting walking running jumping riding playing eating drinking holding
    wearing looking watching reading writing working sleeping dancing singing talking flying
    swimming climbing hanging lying cooking making taking carrying pulling throwing waiting
    posing leaving stands sits walks runs jumps rides plays eats holds wears looks watches
    reads works sleeps make makes made take takes taken get gets got give gives gave go goes
    went see seen look show shows shown use used using need want love loves like build built
    set sets cut keep open closed close ready covered filled painted parked surrounded dressed
    born found day days night morning evening afternoon week weekend month year years spring
    summer autumn fall winter christmas halloween birthday wedding party holiday holidays
    vacation easter thanksgiving january february march april may june july august september
    october november december monday tuesday wednesday thursday friday saturday sunday view
    views close-up closeup photograph portrait background pattern shape shapes illustration
    cartoon stock royalty free vector wallpaper sketch cover print prints art artwork craft
    quilt ideas idea tips guide review reviews quotes quote meaning facts history story news
    football soccer basketball baseball hockey golf race racing match championship league
    season coach goal training workout fitness gym yoga wireless charger charging cable
    adapter battery replacement kit tool tools drill saw screwdriver screw parts part bumper
    case holder stand mount rack shelf storage mug blanket pillow curtain curtains rug towel
    sheet sheets mattress furniture bookcase cabinet cabinets drawer drawers dresser
    nightstand bench stool headboard fixture faucet sink shower headphones earbuds speaker
    speakers laptop printer monitor tablet sunglasses helmet backpack tote purse clutch heart
    cross wings feather bead beads charm pendant chain sterling diamond pearl gemstone cherry
    maple oak walnut pine bamboo brushless cordless waterproof adjustable portable foldable
    lightweight heavy duty size inch inches pack piece pieces pair men's women's ladies girls
    boys kids' toddler unisex adult premium luxury cheap sale discount gift gifts business
    company government law court bank money price report study research science health care
    medical power energy oil gas army navy war peace downtown skyline neighborhood resort
    cruise travel trip tour hiking camping fishing because if now always never often together
    again away already happy different known famous beautiful pretty nice well special wide
    thin huge busy empty full alone cool growing moving having showing giving getting putting
    keeping celebrating performing speaking traveling visiting capturing preparing creating
    turning crossing floating burning celebrate celebrates perform performs celebrated
    decorated shaped stacked caught spotted lined dried frozen broken grown worn carved
    designed inspired located displayed titled created image tourist tourists politician award
    flag character area fire air sunny location helicopter aerial highway sidewalk parade
    fireplace ceiling balcony lawn pond meadow cliff reef soil ground surface rainbow weather
    sunlight shadow wave waves snowy foggy squirrel spider crocodile lizard frog turtle shark
    whale dolphin giraffe zebra kangaroo human humans audience athlete athletes author member
    members pilot nurse dentist skier pumpkin wheat bottles herbs spices cinnamon candy pie
    pizza steak bacon onions garlic mushroom costume gown lace fabric denim stripes knitted
    crochet tattoo tattoos makeup fireworks balloon balloons wreath decoration decorations
    ornament candle candles workplace meeting job work jobs website software technology device
    smartphone display number numbers letters text words word quality outdoor indoor scene
    scenes shot shots movie film tv series episode album concert band stage guitar drums piano
    music song lyrics dance fashion style runway
    """.split()
)

# Words that many languages share: they say nothing and are not counted.
SHARED = frozenset(
    """
    a an in on is as so no me or i s t o e chocolate table village fruit fruits orange
    portrait train bus long large plate lion star image concert six sport animal hotel
    restaurant photo design style model sofa menu festival attend arrive pose poses police
    zebra piano bar gas film
    """.split()
)

# Small words that names are made with: they count half, and only in small letters.
PARTICLES = frozenset(
    """
    de la el le les des du del della di da do dos das van von vom der den zum zur im am los
    las il lo al sur sul en et ou au par por para como son mes ses vue rue chat robe noir
    rouge blanc vert petit petite mer mare cane tasse casa verde dom kat wit bu er ve era na
    ang ng
    """.split()
)

OTHERS = frozenset(
    """
    un una unos unas con pero muy este esta estos estas ese esa sobre entre desde hasta donde
    cuando porque mas tambien sus nuestro nuestra fue hacer tiene hecho cada todo todos toda
    todas nueva nuevo mejor mujer hombre hombres mujeres niños ninos perro gato calle playa
    ciudad año negro negra rojo blanco blanca fotos imagen imagenes receta recetas comprar
    venta precio gratis und oder mit auf aus bei nach für über unter zwischen sind wird werden
    wurde nicht kein keine ein eine einen einem einer eines wie sich auch noch nur sehr mehr
    als wenn aber durch gegen ohne ihr ihre sein seine frau kinder mann hund katze berge
    garten küche kuche schwarz weiss rot blau grün schuhe herren damen kaufen bilder neue
    neuen neues alte alten kleine où une dans avec sans sous chez vers depuis est sont était
    etait qui que quoi très tous toute toutes cette ces mes tes leur leurs notre votre nos vos
    aux comme mais homme femme hommes femmes enfant enfants chien ville plage noire blanche
    bleu vert jardin recette chaussures voiture nouvelle gli che chi cui non sono essere della
    dello delle degli dalla nella nelle sul sulla sulle tra fra più piu anche questo questa
    quello quella suo sua loro nostro donna uomo donne uomini bambini bambino gatto spiaggia
    città citta strada nero nera rosso bianco giardino ricetta scarpe vendita nuovo nuova het
    een voor naar bij uit aan onder tussen zonder niet geen ook nog maar deze zijn wordt
    worden heeft hebben haar hun onze ons te zit huis vrouw mannen vrouwen kinderen hond zwart
    blauw groen tuin koop nieuwe oude di dengan untuk dari pada itu adalah atau juga tidak ada
    akan sudah bisa oleh dalam sebuah seorang seekor bagi karena saat ketika serta anak orang
    rumah cara gambar jual murah harga terbaru resep wanita pria kecil besar warna putih hitam
    merah biru hijau buah uma nas ao aos pelo pela sem sob não nao muito também tambem seu
    seus suas ele ela eles elas esse foi são sao homem mulher crianças criancas menina menino
    cachorro praia rua cidade vestido festa preto branco vermelho się sie nie jest są za przez
    dla jak czy ale oraz pod nad przy bir için icin çok cok olan olarak gibi daha och att det
    som på är ett för med inte från fran vid hus og til ikke ved että etta oli kun tai myös
    myos sekä seka și în din sau mga isang ito hindi
    """.split()
)
