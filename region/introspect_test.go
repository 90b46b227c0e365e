package region

import (
	"strings"
	"testing"
)

// A provider is asked about tokens only if that can be safe.
func TestAProviderIsAskedAboutTokensOnlyIfThatIsSafe(t *testing.T) {
	provider := func(id, more string) string {
		return "    - {id: " + id + ", name: N, issuer: \"https://" + id + ".example\", client: c, claims: {user: sub}, role: gp, organisation: RX1, launch_introspect: true" + more + "}\n"
	}
	for text, want := range map[string]string{
		provider("a", ", launch_scope: s, key: A_KEY"): "",
		provider("a", ", key: A_KEY"):                  "which scope",
		provider("a", ", launch_scope: s"):             "no secret and no key",
		provider("a", ", launch_scope: s, key: A_KEY") + provider("b", ", launch_scope: s, key: B_KEY"): "each would see the others'",
	} {
		_, problems := Parse("r.yaml", []byte("region: {id: a, name: A}\norganisations: [{ods: RX1, name: T, kind: acute}]\nidentity:\n  issuer: https://n.example\n  providers:\n"+text))
		found := ""
		for _, p := range problems {
			if strings.Contains(p.String(), "launch_introspect") {
				found += p.String()
			}
		}
		if (want == "") != (found == "") || !strings.Contains(found, want) {
			t.Errorf("%s\nsays %q, want %q", text, found, want)
		}
	}
}
