package main

import (
	"errors"
	"fmt"
)

// config is read from the environment. The SDK reads QUIESCE_ADDRS, QUIESCE_INSTANCE and QUIESCE_GRACE itself.
type config struct {
	httpAddr  string // ORDERS_HTTP_ADDR
	mysqlDSN  string // ORDERS_MYSQL_DSN, in the form of go-sql-driver
	redisAddr string // ORDERS_REDIS_ADDR
	keyPrefix string // ORDERS_KEY_PREFIX
	source    string // ORDERS_SOURCE, the name of this MySQL server at the coordinator
	target    string // ORDERS_TARGET, the name of this Redis server at the coordinator
}

var errConfig = errors.New("configuration")

func readConfig(getenv func(string) string) (config, error) {
	or := func(name, otherwise string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return otherwise
	}
	c := config{
		httpAddr:  or("ORDERS_HTTP_ADDR", "127.0.0.1:8080"),
		mysqlDSN:  getenv("ORDERS_MYSQL_DSN"),
		redisAddr: getenv("ORDERS_REDIS_ADDR"),
		keyPrefix: or("ORDERS_KEY_PREFIX", "order:"),
		source:    or("ORDERS_SOURCE", "main"),
		target:    or("ORDERS_TARGET", "cache"),
	}
	if c.mysqlDSN == "" || c.redisAddr == "" {
		return c, fmt.Errorf("%w: ORDERS_MYSQL_DSN and ORDERS_REDIS_ADDR are needed", errConfig)
	}
	return c, nil
}
