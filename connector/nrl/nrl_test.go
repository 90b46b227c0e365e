package nrl

import (
	"strings"
	"testing"
)

func TestAnAddressThatNamesSomebodyIsKnown(t *testing.T) {
	for address, want := range map[string]bool{
		"https://record.example/launch/nrl/zk3v9":           false,
		"https://record.example/p/9990000107":               true,  // their own number
		"https://record.example/p/999-000-0107":             true,  // however it is parted
		"https://record.example/p/999%20000%200107":         true,  // or escaped
		"https://record.example/p/%39%39%39%30000107":       true,  //
		"https://record.example/p/x9990000107x":             true,  // in whatever it stands
		"https://record.example/p/9000000009":               true,  // somebody else's
		"https://record.example/p/9000000000":               false, // ten digits, and no number
		"https://record.example/p/12345678901234567":        false, // a longer number
		"ssp://p1.nhs.uk/documents/2022-12-21/17/plan.pdf":  false,
		"https://record.example/9/9/9/0/0/0/0/1/0/7":        false, // parts of a path are no digits of one number
		"https://record.example/?t=1700000000000&p=abcdefg": false,
	} {
		if got := NamesSomebody(address, "9990000107"); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

// Whatever a producer sends is taken or refused, with a reason, and nothing of it is echoed at length.
func FuzzAPointerIsReadOrRefused(f *testing.F) {
	for _, s := range []string{`{}`, `{"resourceType":"DocumentReference"}`, `{"a":{"b":1,"b":2}}`, `[[[[`, `{"content":[{"extension":[{"url":null}]}],"type":{"coding":[]}}`,
		`{"resourceType":"DocumentReference","status":"current","type":{"coding":[{"system":"a","code":"b","display":"c"}]},"category":[],"author":[{}],"content":[{}],"context":{}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, bad := Shape(body)
		if bad == nil {
			bad = Check(p, Settings{})
		}
		if bad != nil && (bad.Status < 400 || bad.Status > 422 || len(bad.Issues) == 0 || !strings.HasPrefix(string(bad.Body()), "{\n  \"resourceType\": \"OperationOutcome\"")) {
			t.Errorf("%d %s", bad.Status, bad.Body())
		}
	})
}
