package dataset

// SystemUnit is this program's own code system for meta.tag: the organisational unit that made something, as its source writes it. A code is a unit, or with
// slashes the way to it: RX1HQ/WARD7. intake writes it where only the message told (HL7 v2 PV1-3, MSH-4), and a source may write it itself.
const SystemUnit = "https://tombolo.dev/CodeSystem/unit"
