package policy

import (
	"bufio"
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"tombolo/fhir"
	"tombolo/region"
)

// A CodeList is one set of codes that make an entry sensitive, as a file says it (docs/sensitivity.md).
type CodeList struct {
	Set      string // one of region.SensitiveSets
	Title    string
	System   string // of the codes
	Refset   string // the reference set whose members they are
	Version  string
	Complete bool // holds every member of the reference set at that version
	Codes    []string
}

//go:embed codelists/*.codes
var builtIn embed.FS

// BuiltInLists are the lists that come with the program: what may be published, which is a beginning.
func BuiltInLists() []CodeList {
	sub, err := fs.Sub(builtIn, "codelists")
	if err == nil {
		var lists []CodeList
		if lists, err = readFiles(sub); err == nil {
			return lists
		}
	}
	panic("policy: built-in code lists: " + err.Error()) // a mistake in the files beside this one
}

// ReadLists reads a folder: every .codes file in it, in the order of their names, and every snapshot of simple reference sets below it (RF2).
func ReadLists(dir fs.FS) ([]CodeList, error) {
	out, err := readFiles(dir)
	if err != nil {
		return nil, err
	}
	more, err := readSnapshots(dir)
	return append(out, more...), err
}

func readFiles(dir fs.FS) ([]CodeList, error) {
	names, err := fs.Glob(dir, "*.codes")
	if err != nil {
		return nil, err
	}
	var out []CodeList
	for _, name := range names {
		data, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		l, err := ParseList(path.Base(name), data)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// maxList bounds a code list file, in bytes: a hundred times the largest of these reference sets.
const maxList = 16 << 20

// ParseList reads one file: lines "key: value", an empty line, then a code a line, with its words after a tab. Errors name file, line and column.
func ParseList(name string, data []byte) (CodeList, error) {
	l := CodeList{System: fhir.SystemSNOMED}
	if len(data) > maxList {
		return l, fmt.Errorf("%s: larger than %d bytes", name, maxList)
	}
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, 1<<16)
	head, seen, known := true, map[string]bool{}, map[string]bool{}
	n := 0
	for sc.Scan() {
		n++
		line := strings.TrimRight(strings.TrimPrefix(sc.Text(), "\ufeff"), "\r")
		switch {
		case strings.HasPrefix(line, "#"):
		case head && line == "":
			head = false
		case head:
			key, value, ok := strings.Cut(line, ":")
			if !ok || seen[key] || !l.take(key, strings.TrimSpace(value)) {
				return l, fmt.Errorf("%s:%d:1: %.40q is not one of set, title, system, refset, version, complete (yes or no), note, each once", name, n, line)
			}
			seen[key] = true
		case line == "":
		default:
			code, _, _ := strings.Cut(line, "\t")
			if i := strings.IndexFunc(code, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 || code == "" {
				return l, fmt.Errorf("%s:%d:%d: a code, then a tab and its words", name, n, max(i, 0)+1)
			}
			if known[code] {
				return l, fmt.Errorf("%s:%d:1: the code %s stands twice", name, n, code)
			}
			known[code] = true
			l.Codes = append(l.Codes, code)
		}
	}
	if err := sc.Err(); err != nil {
		return l, fmt.Errorf("%s:%d: %w", name, n+1, err)
	}
	if !slices.Contains(region.SensitiveSets, l.Set) || l.Version == "" {
		return l, fmt.Errorf("%s:1:1: a list says its set, one of %s, and its version", name, strings.Join(region.SensitiveSets, ", "))
	}
	return l, nil
}

func (l *CodeList) take(key, value string) bool {
	switch key {
	case "set":
		l.Set = value
	case "title":
		l.Title = value
	case "system":
		l.System = value
	case "refset":
		l.Refset = value
	case "version":
		l.Version = value
	case "complete":
		l.Complete = value == "yes"
		return value == "yes" || value == "no"
	case "note":
	default:
		return false
	}
	return true
}

// Statutory reports whether a set is what a statute withholds: nothing that a region decides changes that.
func Statutory(set string) bool { return set == "hfe-act" || set == "gender-recognition-act" }

// A Sensitivity knows which codes make an entry sensitive, and what follows.
type Sensitivity struct {
	codes   map[string]map[string]Labels // by code, then system
	version string
	lists   []CodeList
}

// Lists are the lists in force, without their codes' labels.
func (s *Sensitivity) Lists() []CodeList { return s.lists }

// NewSensitivity puts lists together; ways says for each set what is done with it (restrict, withhold or show; restrict if it says nothing).
func NewSensitivity(lists []CodeList, ways map[string]string) *Sensitivity {
	s := &Sensitivity{codes: map[string]map[string]Labels{}, lists: lists}
	var versions []string
	for _, l := range lists {
		labels := byCode[l.Set]
		switch way := ways[l.Set]; {
		case Statutory(l.Set):
			labels |= LegallyWithheld
		case way == "show":
			continue
		case way == "withhold":
			labels |= VeryRestricted
		default:
			labels |= RestrictedLabel
		}
		if l.Set == "sexually-transmitted" {
			labels |= byCode["STD"]
		}
		for _, c := range l.Codes {
			if s.codes[c] == nil {
				s.codes[c] = map[string]Labels{}
			}
			s.codes[c][l.System] |= labels
		}
		versions = append(versions, l.Set+" "+l.Version+" ("+strconv.Itoa(len(l.Codes))+")")
	}
	s.version = strings.Join(versions, ", ")
	return s
}

// Version says which lists these are, with how many codes each has.
func (s *Sensitivity) Version() string { return s.version }

// Compare says in lines how the lists that come into force differ from those before: "- " what is no longer, "+ " what is new. What differs by its codes alone is told by their number.
func (s *Sensitivity) Compare(next *Sensitivity) (lines []string) {
	told := func(x *Sensitivity) (out []string) {
		for _, l := range x.lists {
			out = append(out, "list "+l.Set+": "+l.String())
		}
		return out
	}
	was, is := told(s), told(next)
	for _, l := range was {
		if !slices.Contains(is, l) {
			lines = append(lines, "- "+l)
		}
	}
	for _, l := range is {
		if !slices.Contains(was, l) {
			lines = append(lines, "+ "+l)
		}
	}
	for set, n := range changed(s.lists, next.lists) {
		lines = append(lines, fmt.Sprintf("list %s: %d codes more, %d fewer", set, n[0], n[1]))
	}
	slices.Sort(lines)
	return lines
}

// changed counts by set the codes that are new and those that are gone.
func changed(was, is []CodeList) map[string][2]int {
	codes := func(lists []CodeList) map[string]map[string]bool {
		out := map[string]map[string]bool{}
		for _, l := range lists {
			for _, c := range l.Codes {
				if out[l.Set] == nil {
					out[l.Set] = map[string]bool{}
				}
				out[l.Set][l.System+"|"+c] = true
			}
		}
		return out
	}
	before, after, out := codes(was), codes(is), map[string][2]int{}
	for _, set := range region.SensitiveSets {
		more, fewer := 0, 0
		for c := range after[set] {
			if !before[set][c] {
				more++
			}
		}
		for c := range before[set] {
			if !after[set][c] {
				fewer++
			}
		}
		if more+fewer > 0 {
			out[set] = [2]int{more, fewer}
		}
	}
	return out
}
