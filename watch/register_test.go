package watch

import (
	"strings"
	"testing"
)

func TestTheStaffRegisterIsRead(t *testing.T) {
	got, err := ReadStaff(strings.NewReader("\ufeffUser,surname,forename,nhs_number,organisation,address,postcode,shoe size\r\n" +
		"doctor,Ade,Femi,999 000 0018,RX1,8 Quay Road,GL99 2XY,9\r\n,Nobody,,,,,,\r\nnurse,Osborne\r\nx,Y,Z,123,RX1,,\r\n"))
	want := []Member{{User: "doctor", Family: "Ade", Given: "Femi", NHSNumber: "9990000018", Organisation: "RX1", Home: Home("8 quay road", "gl992xy")}, {User: "nurse", Family: "Osborne"}, {User: "x", Family: "Y", Given: "Z", Organisation: "RX1"}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("%+v (%v)", got, err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
	for _, bad := range []string{"", "name\nx\n", "user,\"x\ny\n"} {
		if _, err := ReadStaff(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken for a register", bad)
		}
	}
	numbers, err := ReadNumbers(strings.NewReader("# watched\n999 000 0018\n\n9990000107\n"))
	if err != nil || strings.Join(numbers, " ") != "9990000018 9990000107" {
		t.Errorf("%v (%v)", numbers, err)
	}
	if _, err := ReadNumbers(strings.NewReader("123\n")); err == nil || strings.Contains(err.Error(), "123") {
		t.Errorf("a number that is none: %v", err)
	}
}

func FuzzReadStaff(f *testing.F) {
	f.Add("user,surname\na,b\n")
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ReadStaff(strings.NewReader(s))
		if err != nil && got != nil {
			t.Error("both an error and a register")
		}
		for _, m := range got {
			if m.User == "" {
				t.Error("somebody without an id")
			}
		}
	})
}
