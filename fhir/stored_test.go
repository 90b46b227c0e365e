package fhir

import "testing"

func TestSpliceChangesOneMemberOnly(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"resourceType":"Basic", "meta" : {"a":1}, "id":"x"}`, `{"resourceType":"Basic", "meta" : {"b":2}, "id":"x"}`},
		{`{"resourceType":"Basic","code":{"meta":1}}`, `{"resourceType":"Basic","code":{"meta":1},"meta":{"b":2}}`},
		{"  {\"resourceType\":\"Basic\"\n}  ", "{\"resourceType\":\"Basic\"\n,\"meta\":{\"b\":2}}"},
	} {
		r, err := Parse([]byte(c.in))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(r.Splice("meta", []byte(`{"b":2}`))); got != c.want {
			t.Errorf("Splice(%s)\n got %s\nwant %s", c.in, got, c.want)
		}
	}
}

func TestAddRawIsAdd(t *testing.T) {
	r := New("Basic", "x", M{"language": "en"})
	a, b := NewBundle("searchset", "https://h/fhir", 2, 0), NewBundle("searchset", "https://h/fhir", 2, 0)
	for range 2 {
		a.Add(r, "match")
		b.AddRaw(r.Ref(), r.Raw(), "match")
	}
	if got, want := string(b.Bytes()), string(a.Bytes()); got != want {
		t.Errorf("AddRaw gives %s, Add %s", got, want)
	}
}
