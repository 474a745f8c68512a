-- Loaded by HAProxy (haproxy.py): HAProxy sends a replica's answer as its own, and closes the client's connection.
-- If HAProxy only forwarded the answer, the connection would stay open until the client has sent its whole body.
core.register_action("answer_and_close", {"http-res"}, function(txn)
    local reply = txn:reply({status = txn.f:status(), body = txn.f:res_body()})
    for name, values in pairs(txn.http:res_get_headers()) do
        for _, value in pairs(values) do
            reply:add_header(name, value)
        end
    end
    reply:del_header("content-length") -- HAProxy computes its own
    reply:add_header("connection", "close")
    txn:done(reply)
end)
