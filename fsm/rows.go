package fsm

// Rows counts the rows of a table, named as in Change. Constant time; 0 for a table that does not exist.
func (s *State) Rows(table string) int {
	for _, sec := range s.sections() {
		if sec.title() == table {
			return sec.(interface{ len() int }).len()
		}
	}
	return 0
}
