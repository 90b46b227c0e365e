package dataset

import (
	"bytes"

	"tombolo/fhir"
)

// SystemReading is the system of the tags by which connectors mark entries that must be read with care, for viewers to obey.
const SystemReading = "https://tombolo.dev/CodeSystem/reading"

// The marks.
const (
	// SeeSource: the entry carries a modifier that is not understood here and may turn its meaning round. It must not be summarised: a
	// viewer shows that it is there, and sends the reader to the source. FHIR R4 extensibility.html#modifierExtension
	SeeSource = "see-source"
	// TransferDegraded: the code was lost when the record moved between practices; only the words say what is meant.
	TransferDegraded = "transfer-degraded"
	// LegacyCode: coded in a retired or supplier's own scheme alone (Read, CTV3, EMIS, TPP …), which no checking of interactions knows.
	LegacyCode = "legacy-code"
	// Placeholder: a document is listed and its file is not there; why not stands in the title of its attachment.
	Placeholder = "placeholder"
)

// Reading is the mark that an entry bears, "" if none. One that carries a modifier is to be read at its source whether or not its
// connector said so.
func Reading(r *fhir.Resource) string {
	mark := ""
	for t := range r.Value().All("meta.tag") {
		if t.Text("system") == SystemReading {
			if mark = t.Text("code"); mark == SeeSource {
				return mark
			}
		}
	}
	if bytes.Contains(r.Raw(), []byte(`odifierExtension"`)) && modified(r.Value()) || r.Get("implicitRules").Exists() {
		return SeeSource
	}
	return mark
}

func modified(v fhir.Value) bool {
	for m := range v.Children() {
		if m.Key() == "modifierExtension" || m.Key() != "contained" && modified(m) {
			return true
		}
	}
	return false
}
