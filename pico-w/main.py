# Updates never touch this file: which release runs is in /deploy/slots.
import deploy_guard
deploy_guard.run()
