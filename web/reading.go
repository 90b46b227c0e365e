package web

import (
	"tombolo/dataset"
	"tombolo/fhir"
)

// heeds applies the mark that says how an entry must be read. What may mean the opposite of what it seems to say is not told at all,
// only that it is there and where to read it. FHIR R4 extensibility.html#modifierExtension
func heeds(r *fhir.Resource, t *told) {
	switch dataset.Reading(r) {
	case dataset.SeeSource:
		kind := spaced(r.Type())
		*t = told{When: t.When, What: kind + ": see the source", Value: "It carries something that changes its meaning and is not understood here. Read it in the system that it comes from.",
			Marks: []mark{{"See source", toneGrave}}, By: t.By, Where: t.Where}
	case dataset.TransferDegraded:
		t.Marks = append(t.Marks, mark{"Code lost in a transfer", toneWarn})
	case dataset.LegacyCode:
		t.Marks = append(t.Marks, mark{"Old code", toneMuted})
	case dataset.Placeholder:
		t.Marks = append(t.Marks, mark{"No file", toneWarn})
		if why := r.Text("content.attachment.title"); why != "" && why != t.What {
			t.Value = join("; ", t.Value, why)
		}
	}
}

// toBeReadThere reports whether an entry must not be summarised.
func toBeReadThere(r *fhir.Resource) bool { return dataset.Reading(r) == dataset.SeeSource }
