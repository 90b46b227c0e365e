package policy

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// The six reference sets come with the UK Edition of SNOMED CT, in files of Release Format 2: simple reference sets, as snapshots. A file holds many
// reference sets and millions of rows; it is read row by row, and of it only the six are kept. SNOMED CT Release File Specifications §5.2.2

var snapshotName = regexp.MustCompile(`^x?der2_Refset_[A-Za-z0-9]*Simple[A-Za-z0-9]*Snapshot_[A-Za-z0-9]+_[0-9]{8}\.txt$`)

const snapshotHeader = "id\teffectiveTime\tactive\tmoduleId\trefsetId\treferencedComponentId"

// maxRow bounds a row, in bytes; those of this format take about 90.
const maxRow = 4 << 10

// A member is what the newest row says of a code in a reference set.
type member struct {
	since  string // effectiveTime, YYYYMMDD
	active bool
}

// readSnapshots reads every simple reference set snapshot below a folder. Where releases overlap, the newest row of a code counts.
func readSnapshots(dir fs.FS) ([]CodeList, error) {
	wanted := map[string]*CodeList{}
	for _, l := range BuiltInLists() {
		wanted[l.Refset] = &CodeList{Set: l.Set, Title: l.Title, System: fhir.SystemSNOMED, Refset: l.Refset, Complete: true}
	}
	members := map[string]map[string]member{}
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !snapshotName.MatchString(path.Base(name)) {
			return err
		}
		f, err := dir.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		return readSnapshot(name, bufio.NewReaderSize(f, 1<<16), func(refset, code string, m member) {
			if wanted[refset] == nil {
				return
			}
			if members[refset] == nil {
				members[refset] = map[string]member{}
			}
			if was := members[refset][code]; m.since >= was.since {
				members[refset][code] = m
			}
		})
	})
	if err != nil {
		return nil, err
	}
	var out []CodeList
	for refset, codes := range members {
		l := wanted[refset]
		for code, m := range codes {
			l.Version = max(l.Version, m.since)
			if m.active {
				l.Codes = append(l.Codes, code)
			}
		}
		if len(l.Codes) == 0 {
			return nil, fmt.Errorf("the reference set %s (%s) has no active member: the release is not whole", refset, l.Title)
		}
		slices.Sort(l.Codes)
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b CodeList) int { return strings.Compare(a.Set, b.Set) })
	return out, nil
}

// readSnapshot reads one file. Errors name file, line and column (a column of the table).
func readSnapshot(name string, r *bufio.Reader, row func(refset, code string, m member)) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, maxRow), maxRow)
	n := 0
	for sc.Scan() {
		n++
		line := bytes.TrimSuffix(sc.Bytes(), []byte("\r"))
		if n == 1 {
			if string(bytes.TrimPrefix(line, []byte("\ufeff"))) != snapshotHeader {
				return fmt.Errorf("%s:1:1: not a simple reference set: its columns are to be %s", name, strings.ReplaceAll(snapshotHeader, "\t", ", "))
			}
			continue
		}
		cells := bytes.Split(line, []byte("\t"))
		if len(cells) != 6 {
			return fmt.Errorf("%s:%d:1: %d columns, and there are to be 6: the file may have been cut off", name, n, len(cells))
		}
		switch {
		case len(cells[1]) != 8 || !digits(cells[1]):
			return fmt.Errorf("%s:%d:2: effectiveTime is to be eight digits", name, n)
		case len(cells[2]) != 1 || cells[2][0] != '0' && cells[2][0] != '1':
			return fmt.Errorf("%s:%d:3: active is to be 0 or 1", name, n)
		case !sctid(cells[4]):
			return fmt.Errorf("%s:%d:5: refsetId is no SNOMED CT identifier", name, n)
		case !sctid(cells[5]):
			return fmt.Errorf("%s:%d:6: referencedComponentId is no SNOMED CT identifier", name, n)
		}
		row(string(cells[4]), string(cells[5]), member{string(cells[1]), cells[2][0] == '1'})
	}
	if err := sc.Err(); err != nil {
		return fmt.Errorf("%s:%d:1: %w", name, n+1, err)
	}
	if n == 0 {
		return fmt.Errorf("%s:1:1: the file is empty", name)
	}
	return nil
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}

// The tables of Verhoeff's check digit: the multiplication of the dihedral group D5, and the permutation.
var (
	verhoeffTimes = [10][10]byte{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 2, 3, 4, 0, 6, 7, 8, 9, 5}, {2, 3, 4, 0, 1, 7, 8, 9, 5, 6}, {3, 4, 0, 1, 2, 8, 9, 5, 6, 7}, {4, 0, 1, 2, 3, 9, 5, 6, 7, 8},
		{5, 9, 8, 7, 6, 0, 4, 3, 2, 1}, {6, 5, 9, 8, 7, 1, 0, 4, 3, 2}, {7, 6, 5, 9, 8, 2, 1, 0, 4, 3}, {8, 7, 6, 5, 9, 3, 2, 1, 0, 4}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0}}
	verhoeffTurn = [8][10]byte{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 5, 7, 6, 2, 8, 3, 0, 9, 4}, {5, 8, 0, 3, 7, 9, 6, 1, 4, 2}, {8, 9, 1, 6, 0, 4, 3, 5, 2, 7}, {9, 4, 5, 3, 1, 2, 6, 8, 7, 0},
		{4, 2, 8, 6, 5, 7, 3, 9, 0, 1}, {2, 7, 9, 3, 8, 0, 6, 4, 1, 5}, {7, 0, 4, 6, 9, 1, 3, 2, 5, 8}}
)

// sctid reports whether a text is a SNOMED CT identifier: 6 to 18 digits of which the last is Verhoeff's check digit. SNOMED CT Release File
// Specifications §6
func sctid(b []byte) bool {
	if len(b) < 6 || len(b) > 18 || b[0] == '0' || !digits(b) {
		return false
	}
	var c byte
	for i := range b {
		c = verhoeffTimes[c][verhoeffTurn[i%8][b[len(b)-1-i]-'0']]
	}
	return c == 0
}

// String is the list in a line, for people who run the node.
func (l CodeList) String() string {
	whole := "a beginning only"
	if l.Complete {
		whole = "complete"
	}
	return l.Title + ": version " + l.Version + ", " + strconv.Itoa(len(l.Codes)) + " codes, " + whole
}
