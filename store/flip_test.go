package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"

	"tombolo/fhir"
	"tombolo/kv"
	"tombolo/kv/enginetest"
	"tombolo/kv/pebble"
	"tombolo/search"
	"tombolo/sim/unraced"
)

// flips is how many bits are flipped: few, or in a soak (TOMBOLO_SOAK=1, or their number) ten thousand.
func flips(t testing.TB, few int) int {
	t.Helper()
	switch s := os.Getenv("TOMBOLO_SOAK"); s {
	case "", "0":
		return few
	case "1":
		return 10_000
	default:
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("TOMBOLO_SOAK=%q: write 1, or a number of flips", s)
		}
		return n
	}
}

// A truth is what a store was given, to hold what it shows against.
type truth struct {
	current  map[fhir.Ref][]byte         // body; nil of what was deleted
	versions map[fhir.Ref]map[int][]byte // nil of a deletion
	patients []string
}

// fill writes some records: observations that change, one that goes, and what is nobody's.
func fill(t testing.TB, db *DB, patients int) *truth {
	t.Helper()
	ctx := context.Background()
	tr := &truth{current: map[fhir.Ref][]byte{}, versions: map[fhir.Ref]map[int][]byte{}}
	note := func(ref fhir.Ref) {
		s, err := db.ReadRaw(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		if tr.versions[ref] == nil {
			tr.versions[ref] = map[int][]byte{}
		}
		tr.current[ref], tr.versions[ref][s.Version] = bytes.Clone(s.Body), bytes.Clone(s.Body)
	}
	for p := range patients {
		id := fmt.Sprintf("p%03d", p)
		tr.patients = append(tr.patients, id)
		home := Home{Source: "rx1-pas", Patient: id, Heading: "observations"}
		patient := fhir.New("Patient", id, fhir.M{"birthDate": fmt.Sprintf("19%02d-01-01", p%100), "identifier": []fhir.Identifier{{System: "urn:mrn", Value: "M" + id}}})
		put(t, db, home, patient)
		note(patient.Ref())
		for i := range 5 {
			for v := range 1 + i%3 {
				o := fhir.New("Observation", fmt.Sprintf("%s-o%d", id, i), fhir.M{"status": "final", "subject": fhir.Reference{Reference: "Patient/" + id},
					"code": fhir.Code("http://loinc.org", fmt.Sprintf("%d-1", i), "Dose"), "valueString": fmt.Sprintf("%d.%d mg for %s", i, v, id)})
				put(t, db, home, o)
				note(o.Ref())
			}
		}
		gone := fhir.Ref("Observation/" + id + "-o4")
		remove(t, db, gone)
		tr.current[gone], tr.versions[gone][len(tr.versions[gone])+1] = nil, nil
	}
	org := fhir.New("Organization", "rx1", fhir.M{"name": "Severn Acute Trust"})
	put(t, db, Home{Source: "rx1-pas"}, org)
	note(org.Ref())
	return tr
}

// A witness counts what was seen of a damaged store.
type witness struct {
	right, refused, missed int
	wrong                  []string
}

func (w *witness) judge(what string, got, want []byte, err error) {
	switch {
	case err == nil && want != nil && bytes.Equal(got, want):
		w.right++
	case err == nil:
		w.wrong = append(w.wrong, fmt.Sprintf("%s was shown as %.300q", what, got))
	case want == nil && fhir.Is(err, fhir.Deleted):
		w.right++
	case fhir.Is(err, fhir.NotFound):
		w.missed++
	case fhir.Is(err, fhir.Deleted):
		w.wrong = append(w.wrong, what+" is said to be deleted")
	default:
		w.refused++
	}
}

// read reads everything by every way, and holds it against the truth: right, or an error; never other bytes, and never another's. Versions one by one
// only where all is set.
func (tr *truth) read(db *DB, w *witness, all bool) {
	ctx := context.Background()
	for ref, want := range tr.current {
		s, err := db.ReadRaw(ctx, ref)
		w.judge(string(ref), s.Body, want, err)
		if !all {
			continue
		}
		var r *fhir.Resource
		_, err = db.Update(ctx, func(tx Tx) (err error) {
			r, err = tx.Get(ctx, ref)
			return err
		})
		var got []byte
		if err == nil {
			got = r.Raw()
		}
		w.judge(string(ref)+" in a transaction", got, want, err)
		for n, want := range tr.versions[ref] {
			r, err := db.ReadVersion(ctx, ref, n)
			var got []byte
			if err == nil {
				got = r.Raw()
			}
			w.judge(fmt.Sprintf("%s version %d", ref, n), got, want, err)
		}
	}
	shown := func(how string, ref fhir.Ref, version int, body []byte) {
		want, known := tr.current[ref]
		if version > 0 {
			want, known = tr.versions[ref][version]
		}
		if !known || !bytes.Equal(want, body) {
			w.wrong = append(w.wrong, fmt.Sprintf("%s shows %s as %.300q", how, ref, body))
		}
	}
	for _, id := range tr.patients {
		for s, err := range db.PatientRaw(ctx, id) {
			if err != nil {
				w.refused++
				continue
			}
			if patientOf := fhir.Ref("Patient/" + id); s.Ref != patientOf && !bytes.Contains(s.Body, []byte(`"`+patientOf+`"`)) {
				w.wrong = append(w.wrong, fmt.Sprintf("%s is in the record of %s", s.Ref, id))
			}
			shown("the record", s.Ref, 0, s.Body)
		}
	}
	history, err := db.History(ctx, fhir.Ref("Observation/"+tr.patients[0]+"-o2"))
	if err != nil {
		w.refused++
	}
	for _, s := range history {
		shown("history", s.Ref, s.Version, s.Body)
	}
	queries := []search.Query{
		{Type: "Observation", Count: 100, Params: []search.Param{{Name: "code", Values: []string{"http://loinc.org|1-1"}}}},
		{Type: "Observation", Count: 100, Sort: []search.SortKey{{Name: "_id"}}},
		{Type: "Patient", Count: 100, Params: []search.Param{{Name: "identifier", Values: []string{"urn:mrn|M" + tr.patients[0]}}}},
	}
	for _, id := range tr.patients {
		queries = append(queries, search.Query{Type: "Observation", Count: 100, Params: []search.Param{{Name: "patient", Values: []string{"Patient/" + id}}}})
	}
	for _, q := range queries {
		page, err := db.Search(ctx, q)
		if err != nil {
			w.refused++
			continue
		}
		for _, r := range page.Resources {
			shown("a search", r.Ref(), 0, r.Raw())
		}
	}
}

// A keeper remembers every key that was written through it.
type keeper struct {
	kv.Engine
	mu   sync.Mutex
	keys map[kv.Key]bool
}

func (k *keeper) Commit(ctx context.Context, b kv.Batch) (kv.Position, error) {
	k.mu.Lock()
	for _, p := range b.Put {
		k.keys[p.Key] = true
	}
	for _, s := range b.Add {
		k.keys[s.Key] = true
	}
	k.mu.Unlock()
	return k.Engine.Commit(ctx, b)
}

// One bit of one value, or of one key, is not what was written. What is shown is right, or it is an error; and a value that was damaged is
// never passed over as if there were none.
func TestAFlippedBitIsNeverShown(t *testing.T) {
	ctx := context.Background()
	k := &keeper{Engine: enginetest.Open(t, filepath.Join(t.TempDir(), "store")), keys: map[kv.Key]bool{}}
	db, err := Open(Options{Engine: k, Now: new(clock).now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	tr := fill(t, db, 3)
	var there []kv.Entry
	for key := range k.keys {
		if v, ok, err := k.Get(ctx, key); err != nil {
			t.Fatal(err)
		} else if ok {
			there = append(there, kv.Entry{Key: key, Value: v})
		}
	}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	sound := &witness{}
	if tr.read(db, sound, true); len(sound.wrong)+sound.refused+sound.missed > 0 {
		t.Fatalf("undamaged: %+v", sound)
	}
	n, noticed, values := flips(t, 300), 0, 0
	for i := range n {
		at := there[r.IntN(len(there))]
		rotten := at
		inValue := len(at.Value) > 0 && r.IntN(4) > 0
		if inValue {
			values++
			rotten.Value = bytes.Clone(at.Value)
			rotten.Value[r.IntN(len(at.Value))] ^= 1 << r.IntN(8)
		} else {
			key := []byte(at.Key.Key)
			if len(key) == 0 {
				continue
			}
			key[r.IntN(len(key))] ^= 1 << r.IntN(8)
			rotten.Key.Key = string(key)
			if k.keys[rotten.Key] {
				continue // two keys cannot become one
			}
		}
		replace(t, k.Engine, rotten, at)
		w := &witness{}
		tr.read(db, w, true)
		if len(w.wrong) > 0 || inValue && w.missed > 0 {
			t.Fatalf("flip %d (seed %d) of %q in %q, value %v: %d missed, wrong: %q", i, seed, at.Key.Key, at.Key.Part, inValue, w.missed, w.wrong)
		}
		if w.refused+w.missed > 0 {
			noticed++
		}
		replace(t, k.Engine, at, rotten)
	}
	t.Logf("%d bits flipped, %d of them in values: %d noticed, the rest harmless, none shown", n, values, noticed)
	if noticed < n/10 {
		t.Error("hardly any flip mattered: this proves little")
	}
}

// replace writes one entry in place of another.
func replace(t testing.TB, e kv.Engine, now, was kv.Entry) {
	t.Helper()
	b := kv.Batch{Put: []kv.Entry{now}}
	if was.Key != now.Key {
		b.Delete = []kv.Key{was.Key}
	}
	if _, err := e.Commit(context.Background(), b); err != nil {
		t.Fatal(err)
	}
}

// One bit of one file of the embedded store is not what was written.
func TestAFlippedBitInAFileIsNeverShown(t *testing.T) {
	if enginetest.PostgreSQL() {
		return // TestAFlippedBitInADatabaseFileIsNeverShown is about its files
	}
	root, err := os.MkdirTemp("/dev/shm", "rot") // thousands of openings, each with a dozen syncs
	if err != nil {
		root = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	dir := filepath.Join(root, "store")
	db := openDir(t, dir)
	tr := fill(t, db, 12)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	// Opened again, what is in its log goes into a table; some more then stands in the log.
	db = openDir(t, dir)
	later := fhir.New("Observation", "later", fhir.M{"status": "final", "subject": fhir.Reference{Reference: "Patient/p000"}})
	put(t, db, Home{Source: "rx1-pas", Patient: "p000"}, later)
	s, err := db.ReadRaw(context.Background(), later.Ref())
	if err != nil {
		t.Fatal(err)
	}
	tr.current[later.Ref()], tr.versions[later.Ref()] = bytes.Clone(s.Body), map[int][]byte{1: bytes.Clone(s.Body)}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	files, size := readAll(t, dir)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 2))
	n, refusedToOpen, noticed := 8, 0, 0
	if unraced.Run(t) {
		n = flips(t, 120)
	}
	for i := range n {
		copied := filepath.Join(root, "copy")
		if err := os.RemoveAll(copied); err != nil {
			t.Fatal(err)
		}
		name, at := byteAt(files, r.Int64N(size))
		writeAll(t, copied, files)
		rotten := bytes.Clone(files[name])
		rotten[at] ^= 1 << r.IntN(8)
		if err := os.WriteFile(filepath.Join(copied, name), rotten, 0o600); err != nil {
			t.Fatal(err)
		}
		engine, err := pebble.Open(pebble.Options{Dir: copied, CacheBytes: 8 << 20, Reserve: -1, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			refusedToOpen++
			continue
		}
		db, err := Open(Options{Engine: engine})
		if err != nil {
			refusedToOpen++
			_ = engine.Close()
			continue
		}
		w := &witness{}
		tr.read(db, w, false)
		if len(w.wrong) > 0 {
			t.Fatalf("flip %d (seed %d) at byte %d of %s: %q", i, seed, at, name, w.wrong)
		}
		if w.refused > 0 {
			noticed++
		} else if w.missed > 0 {
			t.Errorf("flip %d (seed %d) at byte %d of %s: %d resources are not there, and nothing else is said", i, seed, at, name, w.missed)
		}
		_ = db.Close()
	}
	t.Logf("%d bits flipped in %d files of %d bytes: %d refused to open, %d noticed in reading, none lost without a word, none shown", n, len(files), size, refusedToOpen, noticed)
	if refusedToOpen+noticed < n/10 {
		t.Error("hardly any flip mattered: this proves little")
	}
}

// byteAt is the file and the place in it of a byte of all files together.
func byteAt(files map[string][]byte, at int64) (name string, in int64) {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if at < int64(len(files[name])) {
			return name, at
		}
		at -= int64(len(files[name]))
	}
	panic("beyond the files")
}

func readAll(t testing.TB, dir string) (files map[string][]byte, size int64) {
	t.Helper()
	files = map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = data
		size += int64(len(data))
	}
	return files, size
}

func writeAll(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
