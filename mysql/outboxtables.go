package mysql

import "fmt"

// OutboxTables are the statements that make the quiesce tables in the business schema. MySQL and MariaDB take the same text, and taking it twice
// changes nothing. A node never runs them: its account may not.
var OutboxTables = []string{
	`CREATE TABLE IF NOT EXISTS quiesce_outbox (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  mapping VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  pk TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  old_key TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  new_key TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
) ENGINE=InnoDB COMMENT='rows for the Quiesce relay, which deletes them'`,
	`CREATE TABLE IF NOT EXISTS quiesce_refused (
  refused_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
  id BIGINT UNSIGNED NOT NULL,
  mapping VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  pk TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  old_key TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  new_key TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  reason VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  refused_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
) ENGINE=InnoDB COMMENT='outbox rows that the Quiesce relay cannot accept'`,
	`CREATE TABLE IF NOT EXISTS quiesce_fence (
  id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  probe TINYINT NOT NULL DEFAULT 0,
  created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
) ENGINE=InnoDB COMMENT='fences of transactions that Quiesce was told of before'`,
}

var outboxTableNames = []string{"quiesce_outbox", "quiesce_refused", "quiesce_fence"}

// OutboxGrants is what the accounts of a source need, as statements with places to fill in. database is the business schema.
func OutboxGrants(database string) []string {
	schema := quote(database)
	const node, app = "'quiesce_%s'@'%%'", "'app'@'%'"
	account := func(name string) string { return fmt.Sprintf(node, name) }
	return []string{
		"-- the node's account that reads (dsn)",
		"CREATE USER " + account("read") + " IDENTIFIED BY '...'",
		"GRANT SELECT ON " + schema + ".* TO " + account("read"),
		"-- the node's account for these tables only (outbox)",
		"CREATE USER " + account("outbox") + " IDENTIFIED BY '...'",
		"GRANT SELECT, UPDATE, DELETE ON " + schema + ".quiesce_outbox TO " + account("outbox"),
		"GRANT INSERT ON " + schema + ".quiesce_refused TO " + account("outbox"),
		"GRANT SELECT, INSERT, DELETE ON " + schema + ".quiesce_fence TO " + account("outbox"),
		"-- the node's account that watches long transactions (watch, optional; MySQL: CONNECTION_ADMIN)",
		"CREATE USER " + account("watch") + " IDENTIFIED BY '...'",
		"GRANT PROCESS, CONNECTION ADMIN ON *.* TO " + account("watch"),
		"-- the application: outbox rows of its own (not needed with triggers), fences of prepared events",
		"GRANT INSERT ON " + schema + ".quiesce_outbox TO " + app,
		"GRANT INSERT ON " + schema + ".quiesce_fence TO " + app,
	}
}
