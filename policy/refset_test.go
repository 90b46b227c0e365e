package policy

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"tombolo/fhir"
)

const (
	refsetFile = "SnomedCT_UKClinicalRF2_PRODUCTION_20260415T000001Z/Snapshot/Refset/Content/der2_Refset_SimpleUKCLSnapshot_GB1000000_20260415.txt"
	refsetNew  = "SnomedCT_UKClinicalRF2_PRODUCTION_20260513T000001Z/Snapshot/Refset/Content/der2_Refset_SimpleUKCLSnapshot_GB1000000_20260513.txt"
)

// rf2 makes a file of the release's shape: time active refset code, a row each. Its rows are made up.
func rf2(rows ...string) *fstest.MapFile {
	b := []byte(snapshotHeader + "\r\n")
	for i, r := range rows {
		f := strings.Fields(r)
		b = fmt.Appendf(b, "%08x-0000-4000-8000-000000000000\t%s\t%s\t999000011000000103\t%s\t%s\r\n", i, f[0], f[1], f[2], f[3])
	}
	return &fstest.MapFile{Data: b}
}

// A release of SNOMED CT is read as it comes: of its millions of rows those of the six reference sets, active, as the newest release has them.
func TestReferenceSetsAreReadFromARelease(t *testing.T) {
	lists, err := ReadLists(fstest.MapFS{
		"local.codes": &fstest.MapFile{Data: []byte("set: gender\nversion: 7\n\n93461009\tGender dysphoria\n")},
		refsetFile: rf2("20200401 1 999004381000000103 8098009", "20240401 0 999004381000000103 15628003", "20260415 1 999004381000000103 86406008", "20260101 1 1955841000000104 63487001",
			"20260415 1 999000011000000103 37796009"),
		refsetNew: rf2("20260513 0 999004381000000103 86406008", "20200401 1 999004381000000103 8098009"),
		"SnomedCT_UKClinicalRF2_PRODUCTION_20260415T000001Z/Full/Refset/Content/der2_Refset_SimpleUKCLFull_GB1000000_20260415.txt": rf2("20200401 1 999004381000000103 62479008"),
		"Readme.txt": &fstest.MapFile{Data: []byte("not a table")},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, l := range lists {
		got[l.Set] = fmt.Sprint(l.Version, " ", l.Codes, " ", l.Complete)
	}
	for set, want := range map[string]string{"gender": "7 [93461009] false", "sexually-transmitted": "20260513 [8098009] true", "hfe-act": "20260101 [63487001] true"} {
		if got[set] != want {
			t.Errorf("%s is %s, want %s", set, got[set], want)
		}
	}
	if len(lists) != 3 {
		t.Errorf("%d lists, want 3: %v", len(lists), got)
	}
	s := NewSensitivity(append(BuiltInLists(), lists...), nil)
	labels := s.Labels([]*fhir.Resource{made("Procedure/p", "63487001")})
	if labels[0]&LegallyWithheld == 0 {
		t.Errorf("what the release says that a statute withholds bears %b", labels[0])
	}
	if !strings.Contains(s.Version(), "hfe-act 20260101 (1)") {
		t.Errorf("the version in force is told as %s", s.Version())
	}
}

func TestReleasesThatAreNotWholeAreRefused(t *testing.T) {
	good := "20260415 1 999004381000000103 8098009"
	for what, c := range map[string]struct{ from, to, want string }{
		"cut off in a row":      {"\t8098009\r\n", "", ":2:1:"},
		"cut off in a code":     {"8098009", "80980", ":2:6:"},
		"a code with a slip":    {"8098009", "8098008", ":2:6:"},
		"another kind of table": {"referencedComponentId", "mapTarget", ":1:1:"},
		"no day":                {"20260415", "2026-4-15", ":2:2:"},
		"neither yes nor no":    {"\t1\t", "\ttrue\t", ":2:3:"},
		"no reference set":      {"\t999004381000000103\t", "\tx\t", ":2:5:"},
	} {
		f := rf2(good)
		f.Data = bytes.Replace(f.Data, []byte(c.from), []byte(c.to), 1)
		if _, err := ReadLists(fstest.MapFS{refsetFile: f}); err == nil || !strings.HasPrefix(err.Error(), refsetFile+c.want) {
			t.Errorf("%s: %v, want it told at %s", what, err, c.want)
		}
	}
	if _, err := ReadLists(fstest.MapFS{refsetFile: &fstest.MapFile{}}); err == nil {
		t.Error("an empty file was taken")
	}
	if _, err := ReadLists(fstest.MapFS{refsetFile: rf2("20260415 0 999004381000000103 8098009")}); err == nil {
		t.Error("a reference set without an active member was taken for whole")
	}
	if _, err := ReadLists(fstest.MapFS{refsetFile: &fstest.MapFile{Data: []byte(snapshotHeader + "\n" + strings.Repeat("x", 1<<20))}}); err == nil {
		t.Error("a row without end was taken")
	}
}

func TestIdentifiersOfSNOMEDCT(t *testing.T) {
	for _, l := range BuiltInLists() {
		for _, id := range append([]string{l.Refset}, l.Codes...) {
			if !sctid([]byte(id)) {
				t.Errorf("%s: %s has no check digit", l.Set, id)
			}
		}
	}
	for _, id := range []string{"", "8098008", "0809800", "12345", "1234567890123456789", "80980o9"} {
		if sctid([]byte(id)) {
			t.Errorf("%q was taken for an identifier", id)
		}
	}
}

func FuzzReadSnapshot(f *testing.F) {
	f.Add(rf2("20260415 1 999004381000000103 8098009").Data)
	f.Add([]byte("\ufeff" + snapshotHeader + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = readSnapshot("f", bufio.NewReader(bytes.NewReader(data)), func(refset, code string, m member) {
			if !sctid([]byte(code)) || !sctid([]byte(refset)) || len(m.since) != 8 {
				t.Error("a row that is none was taken")
			}
		})
	})
}
