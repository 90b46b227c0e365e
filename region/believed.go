package region

import (
	"fmt"
	"slices"

	"tombolo/dataset"
	"tombolo/fhir"
)

// own is the source id of what this node's own people decide (connector.Own): a system of that id would speak for them.
const own = "tombolo"

// believed checks whose word opens what others hold.
func (c *checker) believed() {
	ids := make([]string, len(c.r.Systems))
	for i, s := range c.r.Systems {
		ids[i] = s.ID
	}
	for _, list := range []struct {
		key string
		ids []string
	}{{"proxies", c.r.Policy.Proxies}, {"permissions", c.r.Policy.Permissions}} {
		for i, id := range list.ids {
			at := fmt.Sprintf("policy.%s[%d]", list.key, i)
			sys, ok := c.r.System(id)
			switch {
			case id == "": // told of already
			case !ok:
				fix := "Name a system of this file by its id"
				if near := fhir.Nearest(id, ids); near != "" {
					fix = "Did you mean " + near + "?"
				}
				c.err(at, id+" is not among the systems", fix)
			case slices.Contains(list.ids[:i], id):
				c.warn(at, id+" stands twice", "Remove one")
			case !sys.Gives[dataset.Legal].Sends():
				c.warn(at, fmt.Sprintf("%s sends no Consents: of what is asked live nothing is known before a record is opened", id), "Have it send them, and write legal: push (or both) in its gives")
			}
		}
	}
}
