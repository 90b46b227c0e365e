package region

import "encoding/json"

// Schema is the JSON Schema (2020-12) of region files, as docs/region.schema.json publishes it for editors.
func Schema() []byte {
	s := fileShape.schema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["$id"] = "https://tombolo.dev/schema/region.json"
	s["title"] = "Tombolo region file"
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("region: schema: " + err.Error()) // a mistake in the tables above
	}
	return append(out, '\n')
}
