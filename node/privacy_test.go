package node

import (
	"testing"

	"tombolo/audit"
)

// What a citizen reads of a look is in words that everybody knows, and of no code.
func TestALookIsToldInPlainWords(t *testing.T) {
	for name, c := range map[string]struct {
		summary audit.Summary
		what    string
	}{
		"two headings":              {audit.Summary{Kind: audit.Read, What: []string{"policy: 2026-11-22", "source rx1/pas: answered, 2 entries", "allergies: AllergyIntolerance/a/_history/1", "gp-practice: Organization/o"}}, "allergies and bad reactions, your GP practice"},
		"who they are, and no more": {audit.Summary{Kind: audit.Read, What: []string{"policy: 2026-11-22", "permitted: known-here", "view: 00ff"}}, "who you are"},
		"an emergency":              {audit.Summary{Kind: audit.BreakGlass, What: []string{"emergency: km/h unclear", "problems: Condition/c"}}, "health conditions"},
		"a copy":                    {audit.Summary{Kind: audit.Export, What: []string{"reason: and/or moving", "medications: MedicationRequest/m", "other: Provenance/p"}}, "medicines"},
		"refused":                   {audit.Summary{Kind: audit.Denied, What: []string{"refused: objection"}}, "nothing: they were refused"},
	} {
		if got := lookOf(c.summary); got.What != c.what {
			t.Errorf("%s: %q, want %q", name, got.What, c.what)
		}
	}
	if l := lookOf(audit.Summary{Kind: audit.Export, What: []string{"reason: she asked."}}); !l.Copied || l.Background != "A copy was written to a file: because you asked, or because the record moves to another system. The reason given: she asked." {
		t.Errorf("a copy: %+v", l)
	}
	if l := lookOf(audit.Summary{Kind: audit.Notified}); !l.Told || l.Background == "" {
		t.Errorf("a notification: %+v", l)
	}
}
