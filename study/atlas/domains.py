"""Which kind of data a task has: what makes problems more than many versions of one."""

DOMAINS: dict[str, str] = {
    "digits": "images",
    "fashion": "images",
    "mnist": "images",
    "svhn": "images",
    "cifar10": "images",
    "cifar100": "images",
    "image-folder": "images",
    "mnist1d": "signals",
    "vowel": "tables",
    "letters": "tables",
    "satellite": "tables",
    "shuttle": "tables",
    "breast_cancer": "tables",
    "wine": "tables",
    "diabetes": "tables",
    "dna": "tables",
    "characters": "text",
    "communities": "graphs",
}
